"""The search for the best artifact of a lane: what may be tried, what each try is worth and costs, and which one ships.

proposals  → which candidates there are, from facts of class and graph
explore    → built and measured, the cheap checks before the costly ones (stage `searched`)
choose     → the decision by objective within limits, pure (stage `optimized`)
"""
