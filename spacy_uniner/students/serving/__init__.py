"""The parts of a student behind an OpenAI-compatible server."""
