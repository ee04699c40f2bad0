# SPDX-License-Identifier: Apache-2.0
"""Train a judge: data, curriculum, LoRA run, calibration.

Nothing here is imported by the rest of the package, and torch is imported only by what needs it.
"""
