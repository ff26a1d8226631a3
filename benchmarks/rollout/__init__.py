"""A thousand devices through rollouts: what a good version costs, and how far a bad one gets."""
