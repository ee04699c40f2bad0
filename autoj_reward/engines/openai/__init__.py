# SPDX-License-Identifier: Apache-2.0
"""`server:URL`: any OpenAI-compatible HTTP endpoint."""
