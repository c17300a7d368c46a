"""What a model costs on its hardware class and whether the class allows it.

target/    the class's processor, emulated where this machine is of another kind
counting/  instructions to load and per inference
virtual/   queue and heat over ten minutes that take a second
timing     instructions → milliseconds, with an error band
functional, memory, field      does it work, fit, bear a worse sensor
assessment, benchmark          all of that for one lane, and the stage that writes it down
gate, report, plot             the figures against the limits, signed with the artifact
"""
