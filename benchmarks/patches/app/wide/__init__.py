"""A CNN of a million parameters on scikit-learn's handwritten digits."""
