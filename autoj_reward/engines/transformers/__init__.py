# SPDX-License-Identifier: Apache-2.0
"""`transformers`: a causal language model in this process, on the CPU or one GPU."""
