"""Groups leave one store and come into another: backups, moves, and the old Crew's Redis.

out ─▶ lines ─▶ a file ─▶ lines ─▶ records ─▶ into
             old_store ─▶ old_crew ─▶ records ─▶ into
"""
