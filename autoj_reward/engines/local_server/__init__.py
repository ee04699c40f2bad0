# SPDX-License-Identifier: Apache-2.0
"""`vllm-server`: a vLLM process that this package starts, shares between processes and ends."""
