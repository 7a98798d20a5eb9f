"""What expires goes, what must hold is checked and repaired, groups leave and come in."""
