"""Models as evaluation sees them: our engine in process, and anything that speaks OpenAI's API. Know no tasks."""
