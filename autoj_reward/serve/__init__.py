# SPDX-License-Identifier: Apache-2.0
"""The reward server: merges HTTP requests of many clients into batches for one judge.

::

    LimitedProtocol ─▶ HostCheck ─▶ TokenGuard ─▶ BodyLimit ─▶ app (routes, errors)
        ─▶ RewardService ─▶ Window ─▶ Judge, in threads
"""
