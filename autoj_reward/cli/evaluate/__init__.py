# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: measure a judge against people or known answers."""
