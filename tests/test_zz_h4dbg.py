from tests.test_stream import *
def test_x(served, clients):
    try:
        test_b12_a_pause_of_500_tasks_tells_all_500(served, clients)
        test_b12_a_pause_of_500_tasks_tells_all_500(served, clients)
    finally:
        print("".join(served.lines[-30:]))
def test_y(served, clients):
    try:
        test_b12_a_pause_of_500_tasks_tells_all_500(served, clients)
    finally:
        print("".join(served.lines[-30:]))
        from django.db import connection
        with connection.cursor() as c:
            c.execute("select id, xid, group_id, group_event, workgroup from crew_change order by id"); print(c.fetchall())
            c.execute("select pg_current_snapshot()"); print(c.fetchall())
            c.execute("select pid,state,backend_xid,backend_xmin,query from pg_stat_activity where backend_type='client backend'"); print(*c.fetchall(),sep="\n")
