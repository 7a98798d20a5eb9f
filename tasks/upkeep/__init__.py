"""What expires goes, what must hold is checked and repaired, groups leave and come in.

Schedulers and commands do it beside the work. No task is claimed, sent or settled here.
"""
