"""How the web process of `manage.py crewweb` serves: limits, back-pressure, refusals, logs.

Routes and what they answer are in `api` and `admin`.
"""
