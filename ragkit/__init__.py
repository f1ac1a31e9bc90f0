"""ragkit: understand retrieval-augmented generation, and prototype it before production."""
