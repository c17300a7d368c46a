"""Virtual time: how a model behaves under load and in the heat, on hardware that is not there.

`workload` says when inferences are asked for, `thermal` how warm the die gets and which clock that allows,
`simulate` plays both through with one queue and one server, `plot` draws what happened. Nothing waits for a
real clock: ten minutes take a fraction of a second and come out the same, to the byte, on every machine.
"""
