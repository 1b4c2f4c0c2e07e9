"""Payment providers: who collects what customers owe."""
