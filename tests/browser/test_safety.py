"""What somebody could have written or built to harm who looks at a page (S12, S20, S21)."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

import pytest
from django.contrib import admin
from django.db.models import CharField, JSONField, TextField

from tasks.models import Task, TaskGroup

from ..factories import make_group, make_task
from .driver import Handle
from .world import furnish, is_ours, paths

# Each sets window.__xss, opens a dialog, leaves an element or a link that runs.
PAYLOADS = (
    "<script>__xss=1</script>",
    "</script><script>__xss=2</script>",
    "<img src=x onerror=__xss=3>",
    "'\"><img src=x onerror=__xss=4>",
    "<svg onload=__xss=5>",
    "<svg><script>__xss=6</script></svg>",
    "<body onload=__xss=7>",
    "<iframe srcdoc='<script>parent.__xss=8</script>'>",
    "<iframe src=javascript:parent.__xss=9>",
    "<a href=javascript:__xss=10 data-xss>a</a>",
    "javascript:__xss=11//",
    "javascript:/*--></title></style></textarea></script><svg onload=__xss=12>",
    '" onmouseover=__xss=13 autofocus onfocus=__xss=13 x="',
    "' onfocus=__xss=14 autofocus tabindex=1 x='",
    "` onfocus=__xss=15 autofocus x=`",
    "</textarea><script>__xss=16</script>",
    "</title><script>__xss=17</script>",
    "</style><script>__xss=18</script>",
    "</pre><img src=x onerror=__xss=19>",
    "--><script>__xss=20</script><!--",
    "<details open ontoggle=__xss=21>",
    "<input autofocus onfocus=__xss=22>",
    "<video><source onerror=__xss=23></video>",
    "<math><mtext></mtext><img src=x onerror=__xss=24></math>",
    "<form action=javascript:__xss=25><button data-xss>b</button></form>",
    "<base href=https://evil.invalid/>",
    "<meta http-equiv=refresh content='0;url=https://evil.invalid'>",
    "<link rel=stylesheet href=https://evil.invalid/x.css>",
    "{{7*7}}${7*7}{%debug%}<b data-xss>{{constructor.constructor('__xss=29')()}}</b>",
    "\\u003cscript\\u003e__xss=30\\u003c/script\\u003e\u2028</script><i data-xss>\u202e",
)
assert len(PAYLOADS) == 30
# What runs by itself is in the console; these would wait for a click or show injected markup.
LEFT = "document.querySelectorAll('[data-xss], a[href^=\"javascript:\" i], base').length"
MODELS = sorted(model._meta.model_name for model in admin.site._registry)
AREAS = ("home", "password", "API", "app crew", "app auth", "a task", "a group", *MODELS)
# Who they are and what they may is no text to be shown, and has values of its own.
NOT_TEXT = {"password", "digest", "session_hash", "leased_by", "merged_into", "scopes", "group_ids"}

# A text is shown alike, whichever database it comes from.
pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize("area", AREAS)
def test_what_others_wrote_is_only_text(visit, boss, area):
    world = furnish(boss)
    found = paths(world)
    poison()
    person = visit(boss)

    for name, path in found.items():
        if name.split(", ")[0] == area:
            page = person.settle(path)
            assert page.evaluate(LEFT) == 0, name
            person.check()


def poison():
    """Write the payloads into every text of every row: all where they fit, else some each."""
    some = cycle(chunks(200))
    for model in admin.site._registry:
        for row in filter(is_ours, model.objects.all()):
            text = next(some)
            fields = [field for field in model._meta.concrete_fields if is_text(field)]
            values = {field.name: written(field, text) for field in fields}
            if values:
                model.objects.filter(pk=row.pk).update(**values)
    # Each of the texts in the lists, the graph and the timeline.
    group = TaskGroup.objects.exclude(is_paused=True).get()
    for text in chunks(200):
        make_task(group, name=text, key=text, workgroup=text, input=[*PAYLOADS])


def is_text(field):
    kinds = (CharField, TextField, JSONField)
    return (
        isinstance(field, kinds)
        and not field.primary_key
        and not field.choices
        and not field.is_relation
        and field.name not in NOT_TEXT
        and not field.name.endswith("_id")
    )


def written(field, text):
    if isinstance(field, JSONField):
        return [*PAYLOADS] if field.name == "errors" else {text: [*PAYLOADS]}
    if isinstance(field, CharField):
        return text[: field.max_length]
    return "\n".join(PAYLOADS)


def chunks(size):
    """All payloads, as few texts of at most so many characters."""
    made = [""]
    for payload in PAYLOADS:
        if len(made[-1]) + len(payload) > size:
            made.append("")
        made[-1] += payload
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_changes_nothing(visit, boss, site, host):
    """On another port the cookies go with its forms; from another host they do not even go."""
    group = make_group(name="Nightly")
    task = make_task(group, name="Fetch")
    person = visit(boss)
    person.forgive(r"a request to|status of 4\d\d")
    sent, answers = [], []
    person.page.on("request", lambda request: sent.append(request))
    person.page.on("response", lambda said: answers.append((said.request.method, said.status)))

    with evil(forms(site.url, group, task)) as port:
        for number in range(len(FORMS)):
            person.page.goto(f"http://{host}:{port}/{number}")
            person.page.wait_for_url(f"{site.url}/**")

    posts = [each for each in sent if each.method == "POST"]
    cookies = [
        "sessionid" in person.page._loop.call(each.all_headers).get("cookie", "") for each in posts
    ]
    assert cookies == [host == "127.0.0.1"] * len(FORMS)
    # 302 leads who has no session to the login.
    statuses = {status for method, status in answers if method == "POST"}
    assert statuses <= ({400, 403, 415} if host == "127.0.0.1" else {302, 400, 401, 403, 415})
    group.refresh_from_db()
    task.refresh_from_db()
    assert (group.name, group.is_paused, task.is_paused) == ("Nightly", False, False)
    assert (TaskGroup.objects.count(), Task.objects.count()) == (1, 1)


def has_session(person, request):
    headers = Handle(person.page._loop, request).all_headers()
    return "sessionid=" in headers.get("cookie", "")


# Path, encoding, and fields; a text/plain form can write a whole body of JSON.
FORMS = (
    ("/api/v1/task_group/{group}/pause", "application/x-www-form-urlencoded", {}),
    ("/api/v1/task_group/{group}/pause", "text/plain", {'{"a":"': '"}'}),
    ("/api/v1/task_groups", "text/plain", {'{"name":"evil","a":"': '"}'}),
    ("/api/v1/task_group/{group}/tasks/pause?all=1", "multipart/form-data", {"all": "1"}),
    ("/api/v1/task_group/{group}/tasks/delete", "text/plain", {'{"ids":["{task}"],"a":"': '"}'}),
    (
        "/admin/crew/taskgroup/",
        "application/x-www-form-urlencoded",
        {"action": "pause", "_selected_action": "{group}"},
    ),
    ("/admin/crew/taskgroup/{group}/delete/", "application/x-www-form-urlencoded", {"post": "yes"}),
)


def forms(url, group, task):
    def fill(text):
        return text.replace("{group}", group.pk).replace("{task}", task.pk)

    for path, encoding, fields in FORMS:
        inputs = "".join(
            f"<input name='{fill(name)}' value='{fill(value)}'>" for name, value in fields.items()
        )
        yield (
            f"<form method=post enctype={encoding} action='{url}{fill(path)}'>{inputs}</form>"
            "<script>document.forms[0].submit()</script>"
        )


@contextmanager
def evil(pages):
    """Somebody else's site, of these pages."""
    served = list(pages)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            number = self.path.strip("/")
            page = served[int(number)] if number.isdigit() else ""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
