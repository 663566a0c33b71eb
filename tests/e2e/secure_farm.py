"""A farm with logins and TLS for secure.py: every role a process with a certificate of its own."""
import base64
import http.client
import json
import os
import ssl
import subprocess

from farm import Farm, end_processes, wait

APP = "/service/fibonacci"
HOSTS = {"node": "n1", "balancer": "b1", "dns": "d1", "log": "l1"}
PORTS = {"marathon": 8080, "mesos": 5050, "agent": 5051, "bamboo": 8000, "logs": 9200, "console": 5601}
PASSWORD = "correct horse battery"


def basic(user, password=PASSWORD):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class SecureFarm(Farm):
    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        self.roles, self.tokens = {}, {}

    def config_of(self, role, more=""):
        file = os.path.join(self.dir, role + ".toml")
        with open(file, "w") as f:
            f.write(f'data = "{self.data}"\nip = "127.0.0.1"\nbind = "127.0.0.1"\ninstance = "croft-dev"\ndns_port = 8053\ndrain_ms = 3000\ndocker = false\ncpus = 40\nmem = 40000\nallow_fetch_paths = ["{self.bin}"]\n'
                    f'{more}[tls]\ncluster = "{self.dir}/{role}.cluster"\nrenew_within_s = 2\n')
        return file

    def start_role(self, role):
        out = open(os.path.join(self.dir, role + ".log"), "a")
        self.roles[role] = subprocess.Popen([self.bin + "/croft", "serve", "--role", role, "--config", self.config_of(role)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                            env=self.environment)

    def start(self):
        made = self.run("init", "--folder", f"{self.dir}/master.cluster", "--host", "m1", "--role", "master", "--name", "127.0.0.1", "--name", "localhost")
        self.admin = "Bearer " + made.stdout.strip()
        self.ca = f"{self.dir}/master.cluster/ca.pem"
        self.tls = ssl.create_default_context(cafile=self.ca)
        with open(os.open(f"{self.dir}/first.token", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(made.stdout)
        self.start_role("master")
        wait("the master leads", lambda: self.call("GET", "/croft/v1/whoami")[0] == 200, 10)
        for role in HOSTS:
            self.join(role)
            self.start_role(role)
        wait("the farm is up", lambda: any(h["reachable"] for h in self.get("/croft/v1/overview")["hosts"]), 15)
        for user, grants in (("vic", ["viewer:/service"]), ("olga", ["operator:/service"]), ("adam", ["admin:/service", "viewer:/"]), ("root", ["admin"])):
            assert self.call("POST", "/croft/v1/users", {"name": user, "password": PASSWORD, "grants": grants})[0] == 201, user

    def run(self, *words, stdin=None, check=True, token=True):
        env = dict(self.environment or os.environ, CROFT_URL="https://127.0.0.1:8080", CROFT_LOGS_URL="https://127.0.0.1:9200", CROFT_BAMBOO_URL="https://127.0.0.1:8000", CROFT_CA=f"{self.dir}/master.cluster/ca.pem",
                   XDG_CONFIG_HOME=self.dir + "/config")
        if token and os.path.exists(f"{self.dir}/first.token"):
            with open(f"{self.dir}/first.token") as f:
                env["CROFT_TOKEN"] = f.read().strip()
        done = subprocess.run([self.bin + "/croft", *words], capture_output=True, text=True, timeout=60, env=env, input=stdin)
        if check and done.returncode != 0:
            raise AssertionError(f"croft {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def join(self, role):
        token = self.run("token", "join", "--role", role, "--host", HOSTS[role]).stdout.strip()
        self.tokens[role] = token
        self.run("join", "https://127.0.0.1:8080", token, "--folder", f"{self.dir}/{role}.cluster")

    def down(self):
        end_processes(self.roles.values())
        subprocess.run([self.bin + "/croft", "down", "--data", self.data], timeout=60)
        assert not os.path.exists(self.secrets_folder()), "the folder of the secrets is left behind"

    def log(self):
        out = ""
        for role in ("master", *HOSTS):
            with open(os.path.join(self.dir, role + ".log")) as f:
                out += f"--- {role}\n{f.read()[-2500:]}\n"
        return out

    def as_host(self, role):
        """A TLS context with a role's certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(f"{self.dir}/{role}.cluster/host.pem", f"{self.dir}/{role}.cluster/host.key")
        return context

    def answer(self, method, path, body=None, port=8080, who=None, headers=None, tls=None, timeout=15):
        """(status, headers, text); who: an Authorization header, None: the first operator's, "": none"""
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=tls or self.tls)
        headers = dict(headers or {})
        who = self.admin if who is None else who
        if who:
            headers["Authorization"] = who
        data = body if isinstance(body, (str, type(None))) else json.dumps(body)
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body=data, headers=headers)
            got = connection.getresponse()
            return got.status, got.headers, got.read().decode(errors="replace")
        finally:
            connection.close()

    def call(self, method, path, body=None, port=8080, headers=None, timeout=15, who=None, tls=None):
        status, _, text = self.answer(method, path, body, port, who, headers, tls, timeout)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text


def sleeper(app, **more):
    return dict({"id": app, "cmd": f"while :; do echo line of {app}; sleep 0.2; done", "cpus": 0.1, "mem": 32, "instances": 1, "portDefinitions": []}, **more)


def ids(body):
    return [a["id"] for a in body["apps"]]
