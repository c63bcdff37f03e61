"""The condition of the node: metrics, health, the doctor and the support bundle."""
