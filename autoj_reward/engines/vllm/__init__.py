# SPDX-License-Identifier: Apache-2.0
"""`vllm`: vLLM in this process."""
