# SPDX-License-Identifier: Apache-2.0
"""Deliberations of a Conclave orchestrator, from Python. See Client."""

from conclave_client.client import Client, Result, RunFailed, reason

__all__ = ["Client", "Result", "RunFailed", "reason"]
