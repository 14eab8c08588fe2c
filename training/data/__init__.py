"""Training data: hits (`hits`, `darks`), real frames (`frames`), skies (`skies`, `library`), scenes and patches."""
