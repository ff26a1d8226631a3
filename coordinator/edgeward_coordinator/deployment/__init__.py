"""Deployments: which version of which model each group should run, and what that means for one device."""

from edgeward_coordinator.deployment.deployment import Deployment
from edgeward_coordinator.deployment.deployments import Deployments

__all__ = ["Deployment", "Deployments"]
