"""Every request and answer as a pydantic model; the only place that knows how they look as JSON."""
