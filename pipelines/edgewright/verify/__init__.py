"""What a device would say of a published artifact, told to a person: every attestation, its signer and its worth.

`reference` reads what people call an artifact, `audit` looks at everything attached to it, `statement` puts statements
into words, `render` makes the table.

It runs the device's own code (`edgewright_agent.trust`, `edgewright_agent.transport`), the one place in the pipeline
that does: a second implementation could only disagree with what decides in the field.
"""
