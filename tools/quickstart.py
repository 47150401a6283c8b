"""Runs the quickstart with programs that are built: quickstart.py BIN_DIR [--check]. See tools/quickstart."""
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "source", "docs", "guide", "examples", "quickstart")
PATIENCE_S = 60


class Failure(Exception):
    pass


class Program:
    """A program that was started, with its output in a file. Ended by its own process handle, never by name."""

    def __init__(self, directory, name, arguments):
        self.name = name
        self.log_path = os.path.join(directory, f"{name}.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            start_new_session=True)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait_for_port(self, pattern):
        """The first group of `pattern` in the output: the port that the kernel chose."""
        return int(wait_for(f"{self.name} to say its port", lambda: re.search(pattern, self.log()), self)[1])

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def wait_for(what, condition, program=None):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if result := condition():
            return result
        if program is not None and program.process.poll() is not None:
            raise Failure(f"{program.name} ended with status {program.process.returncode} before {what}")
        time.sleep(0.01)
    raise Failure(f"waited {PATIENCE_S} s in vain for {what}")


class Client:
    """One keep-alive connection that is never made anew: if it drops, the next request raises."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.connect()
        self.connection.auto_open = 0

    def get(self, path, headers=None):
        self.connection.request("GET", path, headers=headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), answer.headers


def get(port, path, headers=None):
    return Client(port).get(path, headers)


class Quickstart:
    def __init__(self, bin_dir, directory):
        self.bin_dir = bin_dir
        self.directory = directory
        self.programs = []
        self.passed = self.failed = 0

    def program(self, name, *arguments, label=None):
        program = Program(self.directory, label or name, [os.path.join(self.bin_dir, name), *arguments])
        self.programs.append(program)
        return program

    def replace_file(self, path, edit):
        """Writes beside the file and renames over it, so that nobody ever reads half of it."""
        with open(path, encoding="utf-8") as file:
            before = file.read()
        after = edit(before)
        if after == before:
            raise Failure(f"nothing to edit in {path}")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(after)
        os.rename(path + ".new", path)

    def expect(self, title, answer, status, body_part="", quiet=False):
        good = answer[0] == status and body_part in answer[1]
        self.passed, self.failed = (self.passed + 1, self.failed) if good else (self.passed, self.failed + 1)
        if not quiet or not good:
            first_line = answer[1].strip().split("\n")[0] if answer[1].strip() else ""
            print(f"  {'ok  ' if good else 'FAIL'} {title:<62} {answer[0]}  {first_line}")
            if not good:
                print(f"       expected {status} {body_part!r}; got {answer[0]} {answer[1]!r}")
        return good

    def start(self):
        config = os.path.join(self.directory, "config")
        shutil.copytree(os.path.join(EXAMPLES, "config"), config)
        bootstrap = shutil.copy(os.path.join(EXAMPLES, "bootstrap.yaml"), self.directory)
        listening = r"listening[^\n]*127\.0\.0\.1:([1-9]\d*)"
        for name, example_port in (("blue", "9001"), ("green", "9002")):
            port = self.program("demo_upstream", "--name", name, label=name).wait_for_port(listening)
            self.replace_file(os.path.join(config, "endpoints.yaml"), lambda text: text.replace(example_port, str(port)))
        # Port 0: the kernel chooses, the admin port tells.
        self.replace_file(os.path.join(config, "listener.yaml"), lambda text: text.replace("10000}\n", "0}\n", 1))
        control = self.program("outrigger-control", "--config-dir", config, "--listen", "127.0.0.1:0",
                               "--admin-address", "127.0.0.1:0")
        control_port = control.wait_for_port(listening)
        self.replace_file(bootstrap, lambda text: text.replace("18000}", f"{control_port}}}"))
        proxy = self.program("outrigger", "-c", bootstrap, "--admin-address", "127.0.0.1:0")
        self.control_port = control_port
        self.admin = proxy.wait_for_port(r"admin[^\n]*127\.0\.0\.1:([1-9]\d*)")

        def listener():
            return re.search(r"^ingress::127\.0\.0\.1:([1-9]\d*)", get(self.admin, "/listeners")[1], re.M)

        self.port = int(wait_for("the listener", listener, proxy)[1])
        wait_for("the proxy to be ready", lambda: get(self.admin, "/ready")[0] == 200, proxy)
        print(f"""
control plane   127.0.0.1:{control_port}   serving {config}
proxy           127.0.0.1:{self.port}   admin http://127.0.0.1:{self.admin}/
""")

    def show(self):
        alice, bob = {"x-api-key": "alice-secret"}, {"x-api-key": "bob-secret"}
        kept = Client(self.port)

        print("routing:")
        self.expect("GET /hello", kept.get("/hello"), 200, "blue: /hello")
        self.expect("GET /nowhere with alice's key: no such route", kept.get("/nowhere", alice), 404)

        print("API keys:")
        self.expect("GET /orders/1 without a key", kept.get("/orders/1"), 401)
        self.expect("GET /orders/1 with a wrong key", kept.get("/orders/1", {"x-api-key": "guess"}), 401)
        self.expect("GET /orders/1 with alice's key", kept.get("/orders/1", alice), 200, "blue: /orders/1")
        seen = kept.get("/headers", alice)
        line = next((line for line in seen[1].lower().split("\r\n") if line.startswith("x-client:")), "no x-client")
        self.expect("GET /headers: what the service sees of alice's key", (seen[0], line), 200, "x-client: alice")
        if "alice-secret" in seen[1]:
            self.expect("the key is hidden from the service", (0, seen[1]), 200)

        print("a limit for each client, 100 requests:")
        for number in range(2, 101):
            self.expect(f"GET /orders/{number} with alice's key", kept.get(f"/orders/{number}", alice), 200,
                        f"blue: /orders/{number}\n", quiet=number < 100)
        refused = kept.get("/orders/101", alice)
        self.expect("GET /orders/101 with alice's key", refused, 429)
        self.expect("   its retry-after, in seconds", (200 if refused[2].get("retry-after") else 0,
                                                      refused[2].get("retry-after") or "missing"), 200)
        self.expect("GET /orders/1 with bob's key: his own bucket", kept.get("/orders/1", bob), 200, "blue: /orders/1")

        print("a changed file in the control plane's directory, under load:")
        self.change_route(kept)
        print("a second listener, TLS and HTTP/2, by a file that is put there:")
        self.add_tls()
        self.ask_the_tools()

    def add_tls(self):
        pem, key = (os.path.join(self.directory, f"quickstart.{end}") for end in ("pem", "key"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", pem],
                       check=True, capture_output=True)
        with open(os.path.join(EXAMPLES, "tls.yaml"), encoding="utf-8") as file:
            text = file.read().replace("10443}", "0}").replace("/etc/outrigger/tls", self.directory)
        place = os.path.join(self.directory, "config", "tls.yaml")
        with open(place + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(place + ".new", place)
        found = wait_for("the TLS listener",
                         lambda: re.search(r"^ingress_tls::127\.0\.0\.1:([1-9]\d*)", get(self.admin, "/listeners")[1], re.M))
        for version in ("--http2", "--http1.1"):
            run = subprocess.run(["curl", "-sS", version, "--cacert", pem, "-w", "%{http_code} HTTP/%{http_version}",
                                  f"https://127.0.0.1:{found[1]}/hello"], capture_output=True, text=True, timeout=PATIENCE_S,
                                 check=False)
            expected = "green: /hello\n200 HTTP/2" if version == "--http2" else "green: /hello\n200 HTTP/1.1"
            said = (run.stdout + run.stderr).replace("\n", " ")
            self.expect(f"curl {version} https://.../hello", (200 if run.stdout == expected else 0, said), 200)

    def ctl(self, title, arguments, *parts):
        """Runs outriggerctl, shows what it says, and expects exit code 0 and every part in it."""
        run = subprocess.run([os.path.join(self.bin_dir, "outriggerctl"), *arguments], capture_output=True, text=True,
                             timeout=PATIENCE_S, check=False)
        said = run.stdout + run.stderr
        good = run.returncode == 0 and all(part in said for part in parts)
        self.passed, self.failed = (self.passed + 1, self.failed) if good else (self.passed, self.failed + 1)
        print(f"  {'ok  ' if good else 'FAIL'} outriggerctl {title}")
        for line in said.rstrip().split("\n"):
            print(f"         {line}")
        if not good:
            print(f"       expected exit code 0 and {parts}; got {run.returncode}")

    def ask_the_tools(self):
        control, admin = f"127.0.0.1:{self.control_port}", f"127.0.0.1:{self.admin}"
        print("what every proxy runs:")
        self.ctl("watch --until-sync", ["watch", "--control", control, "--until-sync", "--timeout", str(PATIENCE_S)], "in sync")
        self.ctl("status", ["status", "--control", control], "quickstart-sidecar", "default", "in sync")
        print("what would become of a request, and why:")
        self.ctl("explain --path /hello", ["explain", "--admin", admin, "--listener", "ingress", "--host", "127.0.0.1", "--path",
                                         "/hello"],
                 "cluster green")
        self.ctl("explain --path /orders/1 -H 'x-api-key: bob-secret'",
                 ["explain", "--admin", admin, "--listener", "ingress", "--host", "127.0.0.1", "--path", "/orders/1", "-H",
                  "x-api-key: bob-secret"],
                 "cluster blue")

    def change_route(self, kept):
        stop, failures, counts = threading.Event(), [], [0, 0]

        def load(at):
            try:
                client = Client(self.port)
                while not stop.is_set():
                    status, body, _ = client.get("/hello/load")
                    counts[at] += 1
                    if status != 200 or body not in ("blue: /hello/load\n", "green: /hello/load\n"):
                        failures.append(f"{status} {body!r}")
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))

        loaders = [threading.Thread(target=load, args=(at,)) for at in range(len(counts))]
        for loader in loaders:
            loader.start()
        try:
            self.expect("GET /hello before, on the connection of all requests above", kept.get("/hello"), 200, "blue: /hello")
            began = time.monotonic()
            self.replace_file(os.path.join(self.directory, "config", "routes.yaml"),
                              lambda text: text.replace("route: {cluster: blue}", "route: {cluster: green}"))
            wait_for("the new route", lambda: kept.get("/hello")[1].startswith("green") or failures)
            took_ms = (time.monotonic() - began) * 1000
            self.expect(f"GET /hello {took_ms:.0f} ms after the edit, on the same connection", kept.get("/hello"), 200,
                        "green: /hello")
            settled = sum(counts) + 20
            wait_for("load after the change", lambda: sum(counts) >= settled or failures)
        finally:
            stop.set()
            for loader in loaders:
                loader.join()
        summary = f"{sum(counts)} requests on {len(counts)} other connections, {len(failures)} failed"
        self.expect("meanwhile", (200 if not failures else 0, summary), 200)
        for failure in failures[:5]:
            print(f"       {failure}")

    def stop(self):
        for program in reversed(self.programs):
            program.stop()


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    bin_dir, check = sys.argv[1], "--check" in sys.argv[2:]
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="outrigger_quickstart_") as directory:
        quickstart = Quickstart(bin_dir, directory)
        try:
            quickstart.start()
            quickstart.show()
            if not check and quickstart.failed == 0:
                print(f"""
All of it is still running. Have a look at http://127.0.0.1:{quickstart.admin}/config_dump, /stats, /clusters; or edit
{directory}/config/routes.yaml and ask again:
  curl -i http://127.0.0.1:{quickstart.port}/hello
  curl -i -H 'x-api-key: bob-secret' http://127.0.0.1:{quickstart.port}/orders/7
  {bin_dir}/outriggerctl status --control 127.0.0.1:{quickstart.control_port}
  {bin_dir}/outriggerctl explain --admin 127.0.0.1:{quickstart.admin} --listener ingress --host shop --path /hello
Admin: http://127.0.0.1:{quickstart.admin}/
Ctrl-C stops it.""")
                signal.pause()
        except KeyboardInterrupt:
            print("stopping")
        except (Failure, OSError, http.client.HTTPException) as error:
            quickstart.failed += 1
            print(f"  FAIL {error!r}" if not isinstance(error, Failure) else f"  FAIL {error}")
        finally:
            quickstart.stop()
            if quickstart.failed:
                for program in quickstart.programs:
                    print(f"---- {program.name}\n{program.log()[-3000:]}")
        print(f"{quickstart.passed} passed, {quickstart.failed} failed")
        return 1 if quickstart.failed else 0


if __name__ == "__main__":
    sys.exit(main())
