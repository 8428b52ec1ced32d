"""Where pictures come from: signing keys, signed manifests, text records, and the verification of all of these."""
