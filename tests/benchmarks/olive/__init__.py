"""The peer: Microsoft Olive in an environment of its own, and how it is asked to optimize a model."""
