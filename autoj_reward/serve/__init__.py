# SPDX-License-Identifier: Apache-2.0
"""The reward server: batches HTTP requests of many clients for one judge.

::

    LimitedProtocol ─▶ HostCheck ─▶ TokenGuard ─▶ BodyLimit ─▶ app (routes, errors)
        ─▶ RewardService ─▶ DynamicBatcher ─▶ Judge, in threads
"""
