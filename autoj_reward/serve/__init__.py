# SPDX-License-Identifier: Apache-2.0
"""A reward server: HTTP requests of many clients, merged into batches for one judge.

::

    LimitedProtocol ─▶ HostCheck ─▶ TokenGuard ─▶ BodyLimit ─▶ app (routes, errors)
        ─▶ RewardService ─▶ Window ─▶ Judge, in threads
"""
