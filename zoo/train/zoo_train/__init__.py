# SPDX-License-Identifier: Apache-2.0
"""The training program of the scale model: twenty small dense models, one mixture of experts, and their baselines."""
