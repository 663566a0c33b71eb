"""What rights.py asks: who has just enough for each route of the gate's table and of the log store, with a maker of requests that succeed; and the check that no route is left out."""
import glob
import os
import re

from farm import wait
from secure_farm import PASSWORD, basic, sleeper

APP, OTHER = "/service/box", "/other/app"
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
PORTS = {"page": 5601, "marathon": 8080, "mesos": 5050, "agent": 5051, "bamboo": 8000, "logs": 9200}
PEOPLE = {"vic": "viewer:/service", "olga": "operator:/service", "adam": "admin:/service", "ivan": "operator:/other", "ada": "admin:/other", "vera": "viewer:/", "omar": "operator:/", "root": "admin"}
# Who has just enough for it, and who has all but enough.
LEVELS = {"login": ("vic", ()), "app": ("vic", ("ivan", "ada")), "operator": ("olga", ("vic", "vera", "ivan", "ada")), "secret": ("olga", ("vic", "vera", "ivan", "ada")), "admin": ("adam", ("vic", "vera", "olga", "omar", "ivan", "ada")),
          "sees all": ("vera", ("vic", "olga", "adam", "ivan", "ada")), "changes all": ("omar", ("vic", "vera", "olga", "adam", "ivan", "ada")), "farm": ("root", ("vic", "vera", "olga", "omar", "adam", "ivan", "ada"))}


# --- what there is: the table of the gate, and the routes of the log store, which has rules of its own for what that does not name ---

def routes_of_the_gate():
    """{(face, method, pattern)} of src/gate/rules.cpp."""
    with open(TOP + "/src/gate/rules.cpp") as f:
        text = f.read()
    found = set()
    for face, rules in re.findall(r"^constexpr Rule (\w+)\[\] = \{(.*?)\};$", text, re.S | re.M):
        rules = re.sub(r"//.*", "", rules)
        read = [("GET", path) for path in re.findall(r'sees_(?:app|farm)\("([^"]+)"', rules)] + re.findall(r'(?:\b(?:open_to_all|logged_in|changes_app|hosts|accounts)\(|\{)"([A-Z*]+)", "([^"]+)"', rules)
        assert len(read) == rules.count('"/'), (face, "a rule is written in a way that this test does not read")
        found |= {(face, method, path) for method, path in read}
    assert {face for face, _, _ in found} == set(PORTS) and len(found) > 130, len(found)
    return found


def routes_of_the_log_store():
    """{'METHODS expression'} as src/logs/es registers them, those that only look left out."""
    found = set()
    for file in glob.glob(TOP + "/src/logs/es/*_face.cpp"):
        with open(file) as f:
            found |= {" ".join(re.findall("[A-Z]+", methods)) + " " + path for methods, path in re.findall(r"\bon\(\{([^}]*)\}, (.*?), \w+\);", f.read())}
    assert len(found) > 60, found
    return {route for route in found if not route.startswith("GET ") or route.startswith("GET POST ")}


# --- what each changing route is asked. A maker gives (method, path, body), new each time, that succeeds when the right person sends it ---

def new_app(farm):
    return sleeper("/service/" + farm.fresh(), instances=0)


def group(farm, **more):
    return dict({"id": "/service/" + farm.fresh("g"), "apps": [sleeper("a", instances=0)]}, **more)


def group_of(farm):
    body = group(farm)
    assert farm.call("POST", "/v2/groups", body)[0] == 201
    farm.settled()
    return body["id"]


def rule(farm, there=False):
    app = "/service/" + farm.fresh("rule")
    if there:
        assert farm.call("PUT", "/croft/v1/rules" + app, {"acl": "path_beg " + app})[0] == 200
        wait("the balancer has it", lambda: app in farm.get("/api/services", port=8000))
    return app


def secret(farm):
    name = "/service/" + farm.fresh("pw")
    assert farm.call("PUT", "/croft/v1/secrets" + name, {"value": "x"})[0] == 201
    return name


def waiting(farm):
    return farm.app_of(instances=1, constraints=[["hostname", "LIKE", "nowhere"]])


def under_way(farm):
    app = "/service/" + farm.fresh("way")
    status, body = farm.call("PUT", "/v2/apps" + app, sleeper(app, constraints=[["hostname", "LIKE", "nowhere"]]))
    assert status == 201, (status, body)
    return body["deploymentId"] if "deploymentId" in body else body["deployments"][0]["id"]


def user(farm):
    name = farm.fresh("user")
    assert farm.call("POST", "/croft/v1/users", {"name": name, "password": PASSWORD, "grants": []})[0] == 201
    return name


def token(farm):
    return farm.call("POST", "/croft/v1/tokens", {"label": "to be revoked", "grants": ["viewer:/nowhere"]})[1]["id"]


def revocable(farm):
    host = farm.fresh("h")
    farm.join_host(host)
    return host


def scale(method):
    return lambda farm: (method, "/v2/apps" + farm.app_of(), {"instances": 0, "cpus": 0.2})


def several(method, path):
    return lambda farm: (method, path, [{"id": farm.app_of(), "cpus": 0.2}] if method == "PATCH" else [new_app(farm)])


def a_rule(method, path, there=False):
    def make(farm):
        app = rule(farm, there)
        return method, path.replace("{}", app), None if method == "DELETE" else {"id": app, "acl": "path_beg " + app} if "/api/" in path else {"acl": "path_beg " + app}
    return make


# "face METHOD pattern": (who has just enough for it, maker)
CHANGES = {
    "marathon POST /v2/apps": ("operator", lambda farm: ("POST", "/v2/apps", new_app(farm))),
    "marathon POST /v2/apps/": ("operator", lambda farm: ("POST", "/v2/apps/", new_app(farm))),
    "marathon PUT /v2/apps": ("operator", several("PUT", "/v2/apps")),
    "marathon PUT /v2/apps/": ("operator", several("PUT", "/v2/apps/")),
    "marathon PATCH /v2/apps": ("operator", several("PATCH", "/v2/apps")),
    "marathon PATCH /v2/apps/": ("operator", several("PATCH", "/v2/apps/")),
    "marathon PUT /v2/apps/{*id}": ("operator", scale("PUT")),
    "marathon PATCH /v2/apps/{*id}": ("operator", scale("PATCH")),
    "marathon DELETE /v2/apps/{*id}": ("operator", lambda farm: ("DELETE", "/v2/apps" + farm.app_of(), None)),
    "marathon POST /v2/apps/{*id}/restart": ("operator", lambda farm: ("POST", f"/v2/apps{farm.app_of()}/restart", None)),
    "marathon DELETE /v2/apps/{*id}/tasks": ("operator", lambda farm: ("DELETE", f"/v2/apps{APP}/tasks", farm.task() and None)),
    "marathon DELETE /v2/apps/{*id}/tasks/{task}": ("operator", lambda farm: ("DELETE", f"/v2/apps{APP}/tasks/{farm.task()}", None)),
    "marathon DELETE /v2/queue/{*id}/delay": ("operator", lambda farm: ("DELETE", f"/v2/queue{waiting(farm)}/delay", None)),
    "marathon POST /v2/tasks/delete": ("operator", lambda farm: ("POST", "/v2/tasks/delete", {"ids": [farm.task()]})),
    "marathon DELETE /v2/deployments/{id}": ("operator", lambda farm: ("DELETE", "/v2/deployments/" + under_way(farm), None)),
    "marathon POST /v2/groups": ("operator", lambda farm: ("POST", "/v2/groups", group(farm))),
    "marathon POST /v2/groups/": ("operator", lambda farm: ("POST", "/v2/groups/", group(farm))),
    "marathon PUT /v2/groups": ("operator", lambda farm: ("PUT", "/v2/groups", group(farm))),
    "marathon PUT /v2/groups/": ("operator", lambda farm: ("PUT", "/v2/groups/", group(farm))),
    "marathon POST /v2/groups/{*id}": ("operator", lambda farm: ("POST", "/v2/groups/service/" + farm.fresh("g"), {"apps": [sleeper("a", instances=0)]})),
    "marathon PUT /v2/groups/{*id}": ("operator", lambda farm: ("PUT", "/v2/groups/service/" + farm.fresh("g"), {"apps": [sleeper("a", instances=0)]})),
    "marathon DELETE /v2/groups/{*id}": ("operator", lambda farm: ("DELETE", "/v2/groups" + group_of(farm), None)),
    "marathon PUT /croft/v1/rules/{*app}": ("operator", a_rule("PUT", "/croft/v1/rules{}")),
    "marathon DELETE /croft/v1/rules/{*app}": ("operator", a_rule("DELETE", "/croft/v1/rules{}", True)),
    "marathon PUT /croft/v1/secrets/{*name}": ("admin", lambda farm: ("PUT", "/croft/v1/secrets/service/" + farm.fresh("pw"), {"value": "x"})),
    "marathon DELETE /croft/v1/secrets/{*name}": ("admin", lambda farm: ("DELETE", "/croft/v1/secrets" + secret(farm), None)),
    "marathon POST /croft/v1/nodes/{node}": ("farm", lambda farm: ("POST", "/croft/v1/nodes/n1", {"mode": "active"})),
    "marathon POST /croft/v1/login": ("login", lambda farm: ("POST", "/croft/v1/login", None)),
    "marathon PUT /croft/v1/password": ("login", lambda farm: ("PUT", "/croft/v1/password", {"password": PASSWORD})),
    "marathon POST /croft/v1/users": ("farm", lambda farm: ("POST", "/croft/v1/users", {"name": farm.fresh("user"), "password": PASSWORD, "grants": ["viewer:/service"]})),
    "marathon PUT /croft/v1/users/{name}": ("farm", lambda farm: ("PUT", "/croft/v1/users/" + user(farm), {"grants": ["viewer:/service"]})),
    "marathon DELETE /croft/v1/users/{name}": ("farm", lambda farm: ("DELETE", "/croft/v1/users/" + user(farm), None)),
    "marathon POST /croft/v1/tokens": ("farm", lambda farm: ("POST", "/croft/v1/tokens", {"label": farm.fresh("t"), "grants": ["viewer:/service"]})),
    "marathon DELETE /croft/v1/tokens/{id}": ("farm", lambda farm: ("DELETE", "/croft/v1/tokens/" + token(farm), None)),
    "marathon POST /croft/v1/join-tokens": ("farm", lambda farm: ("POST", "/croft/v1/join-tokens", {"roles": ["node"], "host": farm.fresh("h")})),
    "marathon POST /croft/v1/ca/revocations": ("farm", lambda farm: ("POST", "/croft/v1/ca/revocations", {"host": revocable(farm)})),
    "marathon POST /croft/v1/exec": ("operator", lambda farm: ("POST", "/croft/v1/exec", {"task": farm.task(), "command": ["true"]})),
    "bamboo POST /api/services": ("operator", a_rule("POST", "/api/services")),
    "bamboo PUT /api/services": ("operator", a_rule("PUT", "/api/services")),
    "bamboo PUT /api/services/": ("operator", a_rule("PUT", "/api/services/")),
    "bamboo PUT /api/services/{*id}": ("operator", a_rule("PUT", "/api/services{}")),
    "bamboo DELETE /api/services/{*id}": ("operator", a_rule("DELETE", "/api/services{}", True)),
    "bamboo POST /api/marathon/event_callback": ("login", lambda farm: ("POST", "/api/marathon/event_callback", {"eventType": "app_terminated_event"})),
    # These change the whole farm, and come last.
    "marathon DELETE /v2/groups": ("farm", lambda farm: ("DELETE", "/v2/groups", None)),
    "marathon DELETE /v2/groups/": ("farm", lambda farm: ("DELETE", "/v2/groups/", None)),
    "marathon DELETE /v2/leader": ("farm", lambda farm: ("DELETE", "/v2/leader", None)),
    "marathon POST /croft/v1/ca/rotation": ("farm", lambda farm: ("POST", "/croft/v1/ca/rotation", {"hours": 2160})),
}
# What has a test of its own, or where no request can succeed: nothing names the rule that is to go.
APART = {"marathon DELETE /croft/v1/login", "marathon GET /croft/v1/exec/{session}", "marathon POST /croft/v1/exec/{session}", "marathon DELETE /croft/v1/exec/{session}", "marathon POST /croft/v1/join",
         "marathon POST /croft/v1/certificates", "marathon POST /croft/v1/agents", "marathon POST /croft/v1/agents/{id}/reports", "marathon POST /croft/v1/refusals", "marathon POST /croft/v1/catalog/confirmations",
         "marathon GET /croft/v1/agents/{id}/exec/{session}", "marathon POST /croft/v1/agents/{id}/exec/{session}", "bamboo DELETE /api/services", "bamboo DELETE /api/services/"}
SEARCHES = {"logs * " + where + what for what in ("/_search", "/_count", "/_msearch") for where in ("", "/{index}", "/{index}/{rest}")} | {"logs POST /_search/scroll"}  # they read: test_what_is_seen

DOCUMENT = {"message": "a line", "@timestamp": "2026-01-01T00:00:00Z"}
BULK = '{"index":{"_index":"rights-x"}}\n{"message":"a line"}\n'


def index(farm):
    name = farm.fresh("rights-")
    assert farm.call("PUT", "/" + name, {}, port=9200)[0] == 200
    return name


def alias(farm):
    of, name = index(farm), farm.fresh("alias-")
    assert farm.call("PUT", f"/{of}/_alias/{name}", {}, port=9200)[0] == 200
    return of, name


def template(farm):
    name = farm.fresh("t")
    assert farm.call("PUT", "/_template/" + name, {"index_patterns": ["nothing-*"]}, port=9200)[0] == 200
    return name


def scroll(farm):
    index(farm)
    return farm.call("POST", "/logstash-*/_search?scroll=1m", {"size": 1}, port=9200, who=basic("root"))[1]["_scroll_id"]  # it goes on for who opened it


def point(farm):
    return farm.call("POST", "/logstash-*/_pit?keep_alive=1m", port=9200, who=basic("root"))[1]["id"]


def to(method, path, body=None, of=index):
    """A maker for the log store: %s in the path is what `of` has made."""
    return lambda farm: (method, path % of(farm) if "%s" in path else path, body)


KINDS = {"/_template": {"index_patterns": ["nothing-*"]}, "/_index_template": {"index_patterns": ["nothing-*"]}, "/_component_template": {"template": {}}, "/_ilm/policy": {"policy": {"phases": {}}}, "/_ingest/pipeline": {"processors": []}}
# As the sources register them: who has just enough, and requests. "append" is for hosts as well; what is "never" done is refused to everybody, with a reason for those who may administer.
LOGS = {
    'POST PUT prefix + "/_bulk"': ("append", [to(m, p, BULK) for m in ("POST", "PUT") for p in ("/_bulk", "/rights-x/_bulk")] + [to("POST", "/rights-x/doc/_bulk", BULK)]),
    'POST prefix + "/_doc"': ("append", [to("POST", "/rights-x/_doc", DOCUMENT)]),
    'POST PUT prefix + "/_doc/{id}"': ("append", [to("POST", "/rights-x/_doc/1", DOCUMENT), to("PUT", "/rights-x/_doc/2", DOCUMENT)]),
    'POST PUT prefix + "/_create/{id}"': ("append", [to("POST", "/%s/_create/1", DOCUMENT), to("PUT", "/%s/_create/1", DOCUMENT)]),
    'DELETE "/{index}/_doc/{id}"': ("never", [to("DELETE", "/rights-x/_doc/1")]),
    'POST "/{index}/_update/{id}"': ("never", [to("POST", "/rights-x/_update/1", {"doc": {"a": 1}})]),
    'POST "/{index}/_delete_by_query"': ("never", [to("POST", "/rights-x/_delete_by_query", {"query": {"match_all": {}}})]),
    'POST "/{index}/_update_by_query"': ("never", [to("POST", "/rights-x/_update_by_query", {"query": {"match_all": {}}})]),
    'GET POST "/_mget"': ("sees all", [to(m, "/_mget", {"docs": [{"_index": "rights-x", "_id": "1"}]}) for m in ("GET", "POST")]),
    'GET POST "/{index}/_mget"': ("sees all", [to(m, "/rights-x/_mget", {"ids": ["1"]}) for m in ("GET", "POST")]),
    'GET POST prefix + "/_field_caps"': ("sees all", [to(m, p + "/_field_caps?fields=*") for m in ("GET", "POST") for p in ("", "/rights-x")]),
    'GET POST prefix + "/_validate/query"': ("sees all", [to(m, p + "/_validate/query", {"query": {"match_all": {}}}) for m in ("GET", "POST") for p in ("", "/rights-x")]),
    'POST "/{index}/_pit"': ("sees all", [to("POST", "/rights-x/_pit?keep_alive=1m")]),
    'GET POST prefix + verb': ("farm", [to("POST", p + verb) for p in ("", "/rights-x") for verb in ("/_refresh", "/_flush", "/_forcemerge", "/_cache/clear")]),
    'GET POST "/_search/scroll/{id}"': ("farm", [to("POST", "/_search/scroll/%s", of=scroll)]),
    'DELETE "/_search/scroll"': ("farm", [lambda farm: ("DELETE", "/_search/scroll", {"scroll_id": scroll(farm)})]),
    'DELETE "/_search/scroll/{id}"': ("farm", [to("DELETE", "/_search/scroll/%s", of=scroll)]),
    'DELETE "/_pit"': ("farm", [lambda farm: ("DELETE", "/_pit", {"id": point(farm)})]),
    'PUT "/{index}"': ("farm", [lambda farm: ("PUT", "/" + farm.fresh("rights-"), {})]),
    'DELETE "/{index}"': ("farm", [to("DELETE", "/%s")]),
    'PUT "/{index}/{rest}"': ("farm", [lambda farm: ("PUT", f"/%3C{farm.fresh('rights-')}-%7Bnow%2Fd%7D%3E", {})]),
    'PUT prefix + "/_settings"': ("farm", [to("PUT", "/_settings", {"index": {"number_of_replicas": 0}}), to("PUT", "/%s/_settings", {"index": {"number_of_replicas": 0}})]),
    'PUT POST "/{index}/_mapping"': ("farm", [to(m, "/%s/_mapping", {"properties": {}}) for m in ("PUT", "POST")]),
    'PUT POST "/{index}/_mapping/{type}"': ("farm", [to(m, "/%s/_mapping/doc", {"properties": {}}) for m in ("PUT", "POST")]),
    'POST "/_aliases"': ("farm", [lambda farm: ("POST", "/_aliases", {"actions": [{"add": {"index": index(farm), "alias": farm.fresh("alias-")}}]}), lambda farm: ("POST", "/_aliases", {"actions": [{"remove_index": {"index": index(farm)}}]})]),
    'PUT POST DELETE "/{index}/_alias/{name}"': ("farm", [lambda farm, m=m: (m, "/%s/_alias/%s" % (alias(farm) if m == "DELETE" else (index(farm), farm.fresh("alias-"))), None) for m in ("PUT", "POST", "DELETE")]),
    'PUT POST DELETE "/{index}/_aliases/{name}"': ("farm", [lambda farm, m=m: (m, "/%s/_aliases/%s" % (alias(farm) if m == "DELETE" else (index(farm), farm.fresh("alias-"))), None) for m in ("PUT", "POST", "DELETE")]),
    'PUT POST path + "/{name}"': ("farm", [lambda farm, m=m, kind=kind: (m, f"{kind}/{farm.fresh('t')}", KINDS[kind]) for kind in KINDS for m in ("PUT", "POST")]),
    'DELETE path + "/{name}"': ("farm", [to("DELETE", "/_template/%s", of=template)]),
}
LOG_SEARCHES = {'GET POST prefix + "/_search"', 'GET POST prefix + "/_count"', 'GET POST prefix + "/_msearch"', 'GET POST "/_search/scroll"'}


# "face": who has just enough: patterns of GET. "open" is for everybody, "host" for hosts, "either" for hosts and for whoever is logged in.
LOOKS = {
    "page": {"login": "/ /croft.css /croft.js /croft/v1/overview /croft/v1/logs", "sees all": "/metrics"},
    "marathon": {"open": "/ping /croft/v1/ca",
                 "login": "/v2/info /v2/leader /v2/apps /v2/apps/ /v2/tasks /v2/tasks/ /v2/deployments /v2/deployments/ /v2/queue /v2/queue/ /v2/groups /v2/groups/ /v2/groups/{*id} /v2/groups/apps /v2/events /croft/v1/secrets /croft/v1/whoami /croft/v1/audit",
                 "app": "/v2/apps/{*id} /v2/apps/{*id}/versions /v2/apps/{*id}/versions/{version} /v2/apps/{*id}/tasks /croft/v1/explain/{*id} /v2/groups/{*id}/apps /v2/groups/{*id}/versions /v2/groups/{*id}/versions/{version}",
                 "sees all": "/v2/groups/versions /v2/groups/versions/{version}", "secret": "/croft/v1/secrets/{*name}", "farm": "/croft/v1/users /croft/v1/tokens /croft/v1/ca/rotation /croft/v1/ca/revocations",
                 "host": "/croft/v1/access /croft/v1/catalog"},
    "mesos": {"open": "/health", "login": "/version /redirect", "sees all": "/state /state-summary /slaves /frameworks /tasks /roles /flags /metrics/snapshot /system/stats"},
    "agent": {"open": "/health", "login": "/version", "sees all": "/state /monitor/statistics /containers /metrics/snapshot /flags /metrics /files/debug"},
    "bamboo": {"open": "/status", "login": "/api/state /api/services /api/services/{*id}"},
    "logs": {"either": "/ /_license /_xpack /_cluster/health", "login": "/_security/_authenticate /_search/scroll", "sees all": "/metrics"},
}
# Spellings and routes that the table does not name, each like the one that it stands for.
MORE = [("mesos", "sees all", "/master/state"), ("mesos", "sees all", "/state.json"), ("mesos", "sees all", "/master/state.json"), ("mesos", "sees all", "/master/slaves"), ("mesos", "sees all", "/metrics"), ("mesos", "login", "/croft/v1/overview"),
        ("agent", "sees all", "/slave(1)/state"), ("agent", "sees all", "/state.json"), ("agent", "sees all", "/slave(1)/monitor/statistics"), ("agent", "sees all", "/monitor/statistics.json"),
        ("bamboo", "sees all", "/metrics"), ("marathon", "login", "/croft/v1/overview"), ("marathon", "login", "/"), ("marathon", "sees all", "/metrics"), ("marathon", "login", "/croft/v1/logs"),
        ("logs", "login", "/_search"), ("logs", "login", "/logstash-*/_search"), ("logs", "login", "/logstash-*/_count"), ("logs", "login", "/%3Clogstash-%7Bnow%2Fd%7D%3E/_search"), ("logs", "sees all", "/_cat/indices"), ("logs", "sees all", "/_mapping"),
        ("logs", "sees all", "/_cluster/stats"), ("logs", "sees all", "/_nodes/stats"), ("logs", "sees all", "/_settings"), ("logs", "sees all", "/_alias"), ("logs", "sees all", "/_stats"), ("logs", "sees all", "/_template"), ("logs", "sees all", "/_resolve/index/*")]
TELLING = {"/croft/v1/overview", "/v2/apps", "/v2/apps/", "/v2/tasks", "/v2/tasks/", "/v2/deployments", "/v2/deployments/", "/v2/queue", "/v2/queue/", "/v2/groups", "/v2/groups/", "/v2/groups/apps", "/croft/v1/secrets", "/croft/v1/audit",
           "/api/state", "/api/services", "/_search", "/logstash-*/_search", "/%3Clogstash-%7Bnow%2Fd%7D%3E/_search", "/croft/v1/logs"}  # the admin reads of the other group there: what is hidden from the viewer is there to be seen
QUERIES = {"/croft/v1/logs": "?q=line", "/_search": "?size=500&q=line", "/logstash-*/_search": "?size=500&q=line", "/%3Clogstash-%7Bnow%2Fd%7D%3E/_search": "?size=500&q=line", "/croft/v1/audit": "?last=1000"}
MISSING = {"/api/services/{*id}", "/_search/scroll"}  # Bamboo has no such reading route; of a scroll see test_a_search_finds_ones_own
