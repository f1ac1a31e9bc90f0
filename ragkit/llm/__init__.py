"""Language models behind an OpenAI-compatible endpoint, and what their calls cost."""
