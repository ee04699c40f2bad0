# SPDX-License-Identifier: Apache-2.0
"""Parts that commands share: their grammar, options from dataclasses, judging in chunks, Ctrl-C."""
