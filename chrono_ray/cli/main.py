"""`chrono`: from a domain and dates to searchable pages.

Data goes to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 usage,
3 partial, 130 interrupted. Everything heavy is imported by the command that
needs it: `chrono --help` takes less than 300 ms.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from chrono_ray.model.errors import ChronoError, InvalidInput, SettingsError, Unavailable

app = typer.Typer(
    name="chrono",
    help="From a list of domains and dates to a complete, searchable, citable history.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config = typer.Typer(help="Settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config, name="config")
schedule = typer.Typer(
    help="Collections that begin by themselves.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(schedule, name="schedule")
rules = typer.Typer(
    help="Which captures of a domain are fetched.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(rules, name="rules")
projects = typer.Typer(help="What is kept together.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(projects, name="project")
tasks = typer.Typer(
    help="Deletes, purges, exports: what is asked for besides runs.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
app.add_typer(tasks, name="task")

users = typer.Typer(
    help="Who may ask over HTTP.", no_args_is_help=True, rich_markup_mode=None
)  # fmt: skip
app.add_typer(users, name="user")

archives = typer.Typer(
    help="What each archive is asked, and how often.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(archives, name="archive")

dashboards = typer.Typer(
    help="What Grafana shows of this instance.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(dashboards, name="dashboards")

Run = Annotated[int, typer.Argument(help="The run's number", min=1, max=2**63 - 1)]
Task = Annotated[int, typer.Argument(help="The task's number", min=1, max=2**63 - 1)]
Project = Annotated[str, typer.Argument(help="The project's name, or '#7' for its id")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many that would be")]
Number = Annotated[int, typer.Argument(help="The schedule's number", min=1, max=2**63 - 1)]
Archives = Annotated[
    list[str] | None,
    typer.Option(
        "--archive",
        help="wayback, commoncrawl, pywb or warc; repeatable, most preferred first"
        "  [default: wayback]",
    ),
]
Overlap = Annotated[
    int, typer.Option(help="With --since-last: so many days before the newest capture known")
]
Target = Annotated[str, typer.Argument(help="A domain as it was collected, or a project")]
RulesFile = Annotated[str, typer.Argument(help="A file of rules, one a line; - for stdin")]
In = Annotated[str, typer.Option("--project", help="Only this project's domain")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


class OnInterrupt(StrEnum):
    """What Ctrl+C does to the run that is followed."""

    DETACH = "detach"
    STOP = "stop"


Interrupting = Annotated[
    OnInterrupt,
    typer.Option("--on-interrupt", help="Ctrl+C: `detach` lets it go on, `stop` pauses it"),
]
SinceLast = Annotated[
    bool, typer.Option("--since-last", help="Only what the archive added since the last run")
]
Email = Annotated[str, typer.Argument(help="The user's e-mail address")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin, make none up")
]


@app.command()
def run(
    url: Annotated[str, typer.Argument(help="A URL or a domain, such as iana.org")],
    match: Annotated[str, typer.Option(help="exact, prefix, host or domain")] = "domain",
    start: Annotated[str, typer.Option("--from", help="Year, YYYYMM, YYYY-MM-DD ...")] = "",
    end: Annotated[str, typer.Option("--to", help="The same; its whole year, month or day")] = "",
    archive: Archives = None,
    project: Annotated[str, typer.Option(help="Where the pages are kept together")] = "default",
    since_last: SinceLast = False,
    overlap: Overlap = 30,
    on_interrupt: Interrupting = OnInterrupt.DETACH,
    *,
    json: Json = False,
) -> None:
    """Collect a site's archived history and follow it to the end.

    Example: chrono run iana.org --from 2012 --to 2014
    """
    from chrono_ray.cli.run import Request, run_to_end

    archives = archive or ["wayback"]
    since, stop = overlap if since_last else None, on_interrupt is OnInterrupt.STOP
    raise typer.Exit(
        run_to_end(Request(url, match, start, end, archives, project, since, stop, json))
    )


@app.command()
def plan(
    url: Annotated[str, typer.Argument(help="A URL or a domain, such as iana.org")],
    match: Annotated[str, typer.Option(help="exact, prefix, host or domain")] = "domain",
    start: Annotated[str, typer.Option("--from", help="Year, YYYYMM, YYYY-MM-DD ...")] = "",
    end: Annotated[str, typer.Option("--to", help="The same; its whole year, month or day")] = "",
    archive: Archives = None,
    project: Annotated[str, typer.Option(help="Where the pages are kept together")] = "default",
    since_last: SinceLast = False,
    overlap: Overlap = 30,
    rules: Annotated[str, typer.Option(help="A file of rules for the domain, - for stdin")] = "",
    on_interrupt: Interrupting = OnInterrupt.DETACH,
    *,
    json: Json = False,
) -> None:
    """List a site and say what a run would fetch, skip and take. Nothing is fetched.

    Example: chrono plan iana.org --from 2012 --to 2014
    """
    from chrono_ray.cli.plan import plan_and_print
    from chrono_ray.cli.run import Request

    archives = archive or ["wayback"]
    since, stop = overlap if since_last else None, on_interrupt is OnInterrupt.STOP
    request = Request(url, match, start, end, archives, project, since, stop, json)
    raise typer.Exit(plan_and_print(request, rules))


@app.command()
def start(run_id: Run, *, json: Json = False) -> None:
    """Fetch what a plan has listed."""
    from chrono_ray.cli import plan

    raise typer.Exit(plan.start(run_id, json=json))


@app.command()
def search(
    words: Annotated[str, typer.Argument(help='Words and "quoted phrases"')],
    project: Annotated[str, typer.Option(help="Only this project")] = "",
    host: Annotated[str, typer.Option(help="Only this host")] = "",
    language: Annotated[str, typer.Option(help="Only this language, such as en")] = "",
    start: Annotated[str, typer.Option("--from", help="Captured in or after")] = "",
    end: Annotated[str, typer.Option("--to", help="Captured in or before")] = "",
    sort: Annotated[str, typer.Option(help="relevance, newest or oldest")] = "relevance",
    limit: Annotated[int, typer.Option(help="How many hits")] = 10,
    offset: Annotated[int, typer.Option(help="How many to pass over")] = 0,
    *,
    json: Json = False,
) -> None:
    """Search what was collected. Works while chrono_ray runs and while it does not."""
    from chrono_ray.cli.search import Asked, search_and_print

    asked = Asked(words, project, host, language, start, end, sort, limit, offset)
    raise typer.Exit(search_and_print(asked, json=json))


@app.command()
def status(
    run_id: Annotated[
        int | None, typer.Argument(help="One run; without it the newest", min=1, max=2**63 - 1)
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Say what runs, how far it is, and what it waits for."""
    from chrono_ray.cli.status import print_status

    raise typer.Exit(print_status(run_id, json=json))


@app.command()
def monitor(
    every: Annotated[
        float, typer.Option(help="Seconds between two looks", min=0.5, max=3600)
    ] = 5.0,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look once")] = False,
    json: Json = False,
) -> None:
    """Say how it is doing, a line every few seconds: runs, queues, archives, memory, cache."""
    from chrono_ray.cli.monitor import watch

    raise typer.Exit(watch(every, once=once, json=json))


@app.command()
def top() -> None:
    """Watch how it is doing on a screen of its own, until q or Ctrl+C."""
    from chrono_ray.cli.top import show

    raise typer.Exit(show())


@app.command()
def doctor(
    archives: Annotated[
        bool, typer.Option("--archives", help="Ask each archive for a sign of life, too")
    ] = False,
    *,
    json: Json = False,
) -> None:
    """Look for what is wrong here, and say what to do about it; exit 1 with a problem."""
    from chrono_ray.cli.doctor.printing import examine_and_print

    raise typer.Exit(examine_and_print(ask_archives=archives, json=json))


@app.command()
def verify(run_id: Run, *, json: Json = False) -> None:
    """Recount a run from what the archive said and from every row; exit 1 if anything differs."""
    from chrono_ray.cli.verify import verify_and_print

    raise typer.Exit(verify_and_print(run_id, json=json))


@app.command()
def pause(run_id: Run, *, json: Json = False) -> None:
    """Send nothing more for a run, within seconds. What it has stays."""
    from chrono_ray.cli import control

    raise typer.Exit(control.pause(run_id, json=json))


@app.command()
def resume(run_id: Run, *, json: Json = False) -> None:
    """Go on with a paused run."""
    from chrono_ray.cli import control

    raise typer.Exit(control.resume(run_id, json=json))


@app.command()
def cancel(run_id: Run, *, json: Json = False) -> None:
    """End a run for good. What it has stored stays."""
    from chrono_ray.cli import control

    raise typer.Exit(control.cancel(run_id, json=json))


@app.command()
def retry(
    run_id: Run,
    state: Annotated[
        str, typer.Option(help="Any of failed, gone, refused, cancelled, hole")
    ] = "failed,hole",
    reason: Annotated[str, typer.Option(help="Only these, such as deadline,truncated")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also where the bytes themselves were to blame")
    ] = False,
    dry_run: DryRun = False,
    *,
    json: Json = False,
) -> None:
    """Try again what ended without a page, and the holes of the listing."""
    from chrono_ray.cli import control

    raise typer.Exit(
        control.try_again(run_id, state, reason, force=force, dry_run=dry_run, json=json)
    )


@app.command()
def priority(
    target: Annotated[str, typer.Argument(help="A run's number; with --weight a project")],
    queue_class: Annotated[
        str, typer.Option("--class", help="Of the run: critical, scraping, indexing or default")
    ] = "",
    weight: Annotated[int, typer.Option(help="Of the project against others, 1 to 1000")] = 0,
    captures: Annotated[
        str, typer.Option(help="now, high, normal or low: the run's captures that are named by ...")
    ] = "",
    url: Annotated[str, typer.Option(help="... this URL")] = "",
    match: Annotated[str, typer.Option(help="exact, prefix, host or domain")] = "prefix",
    start: Annotated[str, typer.Option("--from", help="... and captured in or after")] = "",
    end: Annotated[str, typer.Option("--to", help="... and captured in or before")] = "",
    dry_run: DryRun = False,
    *,
    json: Json = False,
) -> None:
    """Have a run, some of its captures, or a project served sooner or later."""
    from chrono_ray.cli.control import Sooner, sooner

    asked = Sooner(target, queue_class, weight, captures, url, match, start, end, dry_run)
    raise typer.Exit(sooner(asked, json=json))


@app.command()
def fetch(
    url: Annotated[str, typer.Argument(help="A URL, or a capture's number alone")],
    timestamp: Annotated[str, typer.Argument(help="14 digits, or the day, month, year")] = "",
    project: Annotated[str, typer.Option(help="The project that has listed it")] = "default",
    archive: Annotated[str, typer.Option(help="Only this archive's capture")] = "",
    *,
    json: Json = False,
) -> None:
    """Fetch one listed capture before all else, whatever waits."""
    from chrono_ray.cli import control

    raise typer.Exit(control.fetch(url, timestamp, project=project, archive=archive, json=json))


@schedule.command("add")
def schedule_add(
    url: Annotated[str, typer.Argument(help="A URL or a domain, such as iana.org")],
    every: Annotated[str, typer.Option(help="12h, 7d, 2w, hourly, daily, weekly, monthly")],
    match: Annotated[str, typer.Option(help="exact, prefix, host or domain")] = "domain",
    start: Annotated[str, typer.Option("--from", help="Year, YYYYMM, YYYY-MM-DD ...")] = "",
    end: Annotated[str, typer.Option("--to", help="The same; its whole year, month or day")] = "",
    archive: Archives = None,
    project: Annotated[str, typer.Option(help="Where the pages are kept together")] = "default",
    queue_class: Annotated[
        str, typer.Option("--class", help="critical, scraping, indexing or default")
    ] = "default",
    overlap: Annotated[int, typer.Option(help="Days before the newest capture known")] = 30,
    full: Annotated[bool, typer.Option("--full", help="All of it each time")] = False,
    *,
    json: Json = False,
) -> None:
    """Collect a site again and again: by default only what its archives have added."""
    from chrono_ray.cli.run import Request
    from chrono_ray.cli.schedule import Planned, add

    archives, since = archive or ["wayback"], None if full else overlap
    request = Request(url, match, start, end, archives, project, since, False, json)
    raise typer.Exit(add(Planned(request, every, queue_class)))


@schedule.command("list")
def schedule_list(*, json: Json = False) -> None:
    """Say what is collected again and again, when next, and how the last time went."""
    from chrono_ray.cli.schedule import show

    raise typer.Exit(show(json=json))


@schedule.command("pause")
def schedule_pause(number: Number, *, json: Json = False) -> None:
    """Begin no more runs of it. What is under way goes on."""
    from chrono_ray.cli.schedule import enable

    raise typer.Exit(enable(number, enabled=False, json=json))


@schedule.command("resume")
def schedule_resume(number: Number, *, json: Json = False) -> None:
    """Begin runs of it again; what was missed is one run."""
    from chrono_ray.cli.schedule import enable

    raise typer.Exit(enable(number, enabled=True, json=json))


@schedule.command("remove")
def schedule_remove(number: Number, *, json: Json = False) -> None:
    """Forget it. Its runs stay."""
    from chrono_ray.cli.schedule import remove

    raise typer.Exit(remove(number, json=json))


@projects.command("list")
def project_list(*, json: Json = False) -> None:
    """Name every project and what it holds."""
    from chrono_ray.cli.project import list_projects

    raise typer.Exit(list_projects(json=json))


@projects.command("show")
def project_show(name: Project, *, json: Json = False) -> None:
    """One project with what it collects."""
    from chrono_ray.cli.project import show_project

    raise typer.Exit(show_project(name, json=json))


@projects.command("delete")
def project_delete(
    name: Project,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    json: Json = False,
) -> None:
    """Delete a project for good: runs, captures, pages, and what no other project shares."""
    from chrono_ray.cli.project import delete_project

    raise typer.Exit(delete_project(name, yes=yes, json=json))


@tasks.command("list")
def task_list(
    limit: Annotated[int, typer.Option(help="How many", min=1, max=10_000)] = 20,
    state: Annotated[str, typer.Option(help="Only pending, done, failed or cancelled ones")] = "",
    *,
    json: Json = False,
) -> None:
    """The newest tasks and how far they are."""
    from chrono_ray.cli.task import list_tasks

    raise typer.Exit(list_tasks(limit, state, json=json))


@tasks.command("show")
def task_show(task_id: Task, *, json: Json = False) -> None:
    """One task in full."""
    from chrono_ray.cli.task import show_task

    raise typer.Exit(show_task(task_id, json=json))


@tasks.command("cancel")
def task_cancel(task_id: Task, *, json: Json = False) -> None:
    """End a task at its next safe point. What it did stays."""
    from chrono_ray.cli.task import cancel_task

    raise typer.Exit(cancel_task(task_id, json=json))


@app.command()
def purge(
    older_than: Annotated[
        float, typer.Option(help="Hours that it must have been unused", min=1.0)
    ] = 24.0,
    *,
    json: Json = False,
) -> None:
    """Delete payloads that nothing refers to any more."""
    from chrono_ray.cli import task

    raise typer.Exit(task.purge(older_than * 3600.0, json=json))


@app.command()
def export(
    project: Annotated[str, typer.Argument(help="The project's name, or '#7' for its id")],
    folder: Annotated[str, typer.Argument(help="Where the files are written")],
    subject: Annotated[str, typer.Option(help="pages or captures")] = "pages",
    form: Annotated[
        str, typer.Option(help="jsonl, jsonl.gz, jsonl.zst, csv or parquet")
    ] = "jsonl.zst",
    domain: Annotated[str, typer.Option(help="Only this collected URL, such as iana.org")] = "",
    start: Annotated[str, typer.Option("--from", help="Captured in or after")] = "",
    end: Annotated[str, typer.Option("--to", help="Captured in or before")] = "",
    *,
    json: Json = False,
) -> None:
    """Write a project's pages or captures as files, with a manifest that vouches for each."""
    from chrono_ray.cli.export import Wanted
    from chrono_ray.cli.export import export as write

    wanted = Wanted(project, folder, subject, form, domain, start, end)
    raise typer.Exit(write(wanted, json=json))


@app.command()
def up(*, json: Json = False) -> None:
    """Start everything on this machine and leave it running."""
    from chrono_ray.cli.machine import start

    raise typer.Exit(start(json=json))


@app.command()
def down(*, json: Json = False) -> None:
    """Drain and stop everything that `chrono up` started. Nothing is lost."""
    from chrono_ray.cli.machine import end

    raise typer.Exit(end(json=json))


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="The server, such as https://chrono.example.org")],
    email: Annotated[str, typer.Option(help="Your address there; without it you are asked")] = "",
    days: Annotated[int, typer.Option(help="So long the key is good", min=1)] = 90,
    *,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin")
    ] = False,
    json: Json = False,
) -> None:
    """Have commands work against a server, by an API key that is kept in the data folder."""
    from chrono_ray.cli.remote import login as log_in

    raise typer.Exit(log_in(url, email, days, stdin=password_stdin, json=json))


@app.command()
def logout(*, json: Json = False) -> None:
    """End the key of `chrono login`: commands work on this machine again."""
    from chrono_ray.cli.remote import logout as log_out

    raise typer.Exit(log_out(json=json))


@app.command()
def migrate(*, json: Json = False) -> None:
    """Bring the database to this version's schema."""
    from chrono_ray.cli.machine import migrate_record

    raise typer.Exit(migrate_record(json=json))


@app.command()
def reindex(
    *,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it to its end, or only ask for it")
    ] = True,
    json: Json = False,
) -> None:
    """Build a fresh index from the record, then put it in the live one's place.

    Searching and collecting go on meanwhile. Stopped, it goes on where it was.
    """
    from chrono_ray.cli.repair import reindex as build

    raise typer.Exit(build(wait=wait, json=json))


@app.command()
def reconcile(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Queue what differs")] = False,
    json: Json = False,
) -> None:
    """Hold the index against the record, page by page. Exit 1 if they differ."""
    from chrono_ray.cli.repair import reconcile as compare

    raise typer.Exit(compare(repair=repair, json=json))


@app.command()
def recount(
    run_id: Annotated[
        int | None, typer.Argument(help="One run; without it all", min=1, max=2**63 - 1)
    ] = None,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Write what is right")] = False,
    json: Json = False,
) -> None:
    """Count every kept number again from the rows. Exit 1 if one is wrong."""
    from chrono_ray.cli.repair import recount_numbers

    raise typer.Exit(recount_numbers(run_id, repair=repair, json=json))


@app.command()
def rescue(*, json: Json = False) -> None:
    """Give back at once what dead workers hold, and queue what stands nowhere."""
    from chrono_ray.cli.repair import rescue as sweep_now

    raise typer.Exit(sweep_now(json=json))


@app.command()
def demo(
    captures: Annotated[int, typer.Option(help="How many captures the demo archive holds")] = 0,
) -> None:
    """Run the whole path on a small archive of an invented site, then stop it all again."""
    from chrono_ray.cli.demo import run_demo

    raise typer.Exit(run_demo(captures))


@app.command()
def perf(
    server: Annotated[
        str, typer.Option(help="An instance elsewhere; its key is CHRONO_TOKEN")
    ] = "",
    only: Annotated[
        list[str] | None,
        typer.Option(help="scrape, api, statistics, claim, users, sockets or memory; repeatable"),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="For each measure that is timed", min=0.5, max=600)
    ] = 10.0,
    html: Annotated[str, typer.Option(help="Write a report with plots to this file")] = "",
    *,
    own: Annotated[
        bool, typer.Option("--own", help="Start a private instance, whatever runs")
    ] = False,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="A database may be made beside a record of your own")
    ] = False,
    json: Json = False,
) -> None:
    """Measure an instance against its targets. Exit 3 if one is missed.

    Without one that runs, a private one is started over the demo archive.
    """
    from chrono_ray.cli.perf import Asked, measure_and_print

    asked = Asked(server, only or [], seconds, html, own, scratch)
    raise typer.Exit(measure_and_print(asked, json=json))


@rules.command("set")
def rules_set(target: Target, file: RulesFile, project: In = "", *, json: Json = False) -> None:
    """Give a domain rules, and decide all that it has listed by them. No request is sent for it."""
    from chrono_ray.cli.rules import set_and_decide

    raise typer.Exit(set_and_decide(target, file, project, json=json))


@rules.command("show")
def rules_show(target: Target, project: In = "", *, json: Json = False) -> None:
    """Print a domain's rules, in a form that can be edited and set."""
    from chrono_ray.cli.rules import show

    raise typer.Exit(show(target, project, json=json))


@rules.command("test")
def rules_test(target: Target, file: RulesFile, project: In = "", *, json: Json = False) -> None:
    """Say what rules would do to what a domain has listed. Nothing is changed."""
    from chrono_ray.cli.rules import try_and_print

    raise typer.Exit(try_and_print(target, file, project, json=json))


@archives.command("list")
def archive_list(*, json: Json = False) -> None:
    """Say what each archive may be asked a minute, and which is left alone for how long."""
    from chrono_ray.cli.archive import list_archives

    raise typer.Exit(list_archives(json=json))


@archives.command("resume")
def archive_resume(
    name: Annotated[str, typer.Argument(help="The archive, such as wayback")],
    *,
    json: Json = False,
) -> None:
    """Ask an archive again before its silence has passed. A ban by it is your own risk."""
    from chrono_ray.cli.archive import resume

    raise typer.Exit(resume(name, json=json))


@dashboards.command("push")
def dashboards_push(
    folder: Annotated[
        str, typer.Argument(help="A folder of boards; without it those of chrono_ray")
    ] = "",
    *,
    json: Json = False,
) -> None:
    """Put the boards into the Grafana of CHRONO_GRAFANA__URL. Others' boards stay as they are."""
    from chrono_ray.cli.dashboards import push

    raise typer.Exit(push(folder, json=json))


@users.command("add")
def user_add(
    email: Email,
    name: Annotated[str, typer.Option(help="What people call them")] = "",
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Make them an admin")] = False,
    password_stdin: PasswordStdin = False,
    json: Json = False,
) -> None:
    """Add somebody who may log in at once, and print a password made up for them, once."""
    from chrono_ray.cli.user import add

    raise typer.Exit(add(email, name, admin=admin, stdin=password_stdin, json=json))


@users.command("list")
def user_list(*, json: Json = False) -> None:
    """Name everybody, and who waits for approval."""
    from chrono_ray.cli.user import list_users

    raise typer.Exit(list_users(json=json))


@users.command("approve")
def user_approve(email: Email, *, json: Json = False) -> None:
    """Let somebody log in who registered, or who was disabled."""
    from chrono_ray.cli.user import approve

    raise typer.Exit(approve(email, json=json))


@users.command("password")
def user_password(
    email: Email, *, password_stdin: PasswordStdin = False, json: Json = False
) -> None:
    """Give somebody another password. All their tokens and API keys end."""
    from chrono_ray.cli.user import set_password

    raise typer.Exit(set_password(email, stdin=password_stdin, json=json))


@app.command()
def backup(
    place: Annotated[str, typer.Argument(help="A folder of backups; it is made if need be")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Make none, read one: PLACE itself, or its newest")
    ] = False,
    keep_daily: Annotated[
        int, typer.Option(help="Then keep the newest of so many days, and of --keep-weekly", min=0)
    ] = 0,
    keep_weekly: Annotated[int, typer.Option(help="... of so many weeks", min=0)] = 0,
    *,
    json: Json = False,
) -> None:
    """Back up the record, all that was fetched, and the settings without secrets. Runs go on.

    Example: chrono backup /mnt/backups --keep-daily 7 --keep-weekly 4
    """
    from chrono_ray.cli import backup as backups
    from chrono_ray.pipeline.backup_place import Kept

    if verify:
        raise typer.Exit(backups.verify(place, json=json))
    kept = Kept(keep_daily, keep_weekly) if keep_daily or keep_weekly else None
    raise typer.Exit(backups.backup(place, kept, json=json))


@app.command()
def restore(
    source: Annotated[str, typer.Argument(help="A backup, or a folder of them: its newest")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where there is a record: it is lost then")
    ] = False,
    *,
    paused: Annotated[
        bool, typer.Option("--paused", help="Runs and schedules wait: for a copy beside the first")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back what was there before one that was cut off")
    ] = False,
    json: Json = False,
) -> None:
    """Bring a backup back while chrono_ray is stopped, and build the index from it."""
    from chrono_ray.cli import backup as backups

    if bool(source) is undo:
        raise InvalidInput("Name a backup, or say --undo")
    if undo:
        raise typer.Exit(backups.undo(json=json))
    raise typer.Exit(backups.restore(source, replace=replace, paused=paused, json=json))


@app.command()
def prune(
    older_than: Annotated[
        int, typer.Option(help="Days since a task, a rebuild or an API key ended", min=1)
    ] = 90,
    exports: Annotated[
        bool, typer.Option("--exports", help="Exports as old, too, with their files")
    ] = False,
    backups: Annotated[
        str, typer.Option(help="Also this place's backups beyond --keep-daily and --keep-weekly")
    ] = "",
    keep_daily: Annotated[int, typer.Option(help="The newest of so many days", min=0)] = 7,
    keep_weekly: Annotated[int, typer.Option(help="... of so many weeks", min=0)] = 4,
    dry_run: DryRun = False,
    *,
    json: Json = False,
) -> None:
    """Remove what is kept for a while only, and bytes that nothing names any more."""
    from chrono_ray.cli.prune import Asked, prune_and_print
    from chrono_ray.pipeline.backup_place import Kept

    asked = Asked(older_than, exports, backups, Kept(keep_daily, keep_weekly), dry_run)
    raise typer.Exit(prune_and_print(asked, json=json))


@config.command("show")
def config_show(*, json: Json = False) -> None:
    """Print every setting, its value and where it comes from. Secrets are not shown."""
    from chrono_ray.cli.machine import show_settings

    raise typer.Exit(show_settings(json=json))


def main() -> None:
    """The CLI's boundary: errors of ours become one clear line and an exit code."""
    try:
        app()
    except (InvalidInput, SettingsError) as error:
        _fail(error, 2)
    except Unavailable as error:
        from chrono_ray.cli.boundary import for_a_person

        _fail(for_a_person(error), 1)
    except ChronoError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except Exception as error:  # the database's become a line too; any other is a bug: shown whole
        from chrono_ray.cli.boundary import database_error

        told = database_error(error)
        if told is None:
            raise
        _fail(told, 1)


def _fail(error: ChronoError, code: int) -> None:
    sys.stderr.write(f"chrono: {error}\n")
    sys.exit(code)
