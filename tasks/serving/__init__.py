"""How the web process of `manage.py crewweb` serves: limits, back-pressure, refusals, logs."""
