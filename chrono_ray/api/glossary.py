"""What the names in requests and answers mean: one meaning for a name, wherever it stands.

A field or parameter that says more by itself keeps its own words; `Schema.field`
stands for a name that means something else in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PARSED: Final = """
access_token | Stands behind `Authorization: Bearer` for `expires_in` seconds
action | What is done to them
active | So many of them list or fetch now
HolderAnswer.active | Connections that ask something now
actors | The workers by name, with their last answers
added | Lines that only the later text has
DiffAnswer.after | The page whose text is the later one
Hunk.after | The first line of it in the later text, counted from 1
NeighboursAnswer.after | The version behind it, null for the last
after | Go on behind the line of this `id`
address | Of the machine inside the cluster
alive | Whether the machine answers
approved | It had been skipped, and is wanted now
approved_at | When an admin let them in
archive | The archive's name, as runs choose it
archives | By archive, the most preferred first
CollectionRequest.archives | Names of archives, the most preferred first
asked_by | The capture by which its payload is asked for
asked_in | The run by which its payload is asked for
at | When that was
attempts | How often it was tried
author | Who wrote it
bad_rows | Rows of the listing that are no captures
DiffAnswer.before | The page whose text is the earlier one
Hunk.before | The first line of it in the earlier text, counted from 1
NeighboursAnswer.before | The version before it, null for the first
bom | Of CSV: begin with a byte order mark, for spreadsheets
budgets | A budget each archive and kind of request
built_in | Rules that stand behind a domain's own
by | Who that was; null for nobody
bypassed | Answers that were made without the cache
bytes | Their size
came_back | It was seen again when the next one had been seen already
cancelled | Ended before they were fetched
canonical | The URL that the page says is its own
capture | The capture's number
WholeCaptureAnswer.capture | The capture itself
captures | How many captures
RunDetail.captures | What became of the listed rows
RunItem.captures | What became of the listed rows
PlanAnswer.captures | What became of the listed rows
PriorityRequest.captures | The place of waiting captures
cdx | For listings
change | What it is against the one before
changed | How many were changed, or would be
changed_at | When it was last changed
changed_by | The changed by the state and reason that they stood in
charset | How its bytes were read
check | Our own SHA-1 of the bytes against the listed digest: verified, mismatch or unknown
chosen | Rows that were to be listed
citation | How it is cited
class | The queue class, which decides how large a share of the work it has
classes | By queue class, or class of time to live
clean | Everything adds up
code | Stable: what clients match on
FieldError.code | The name of the rule that is broken
computing | Answers that somebody makes at this moment
confidence | How sure the rule is, from 0 to 1
contents | What it holds; null where it does not answer
corrupt | Kept answers that were damaged, and made anew
counts | What it was asked
cpus | Cores of the machine
cpus_free | Cores that nobody has reserved
created_at | When it was made
cursor | `next` of the answer before
deduplicated | Captures that cost no request of their own
deleting | The task that deletes it, else null
description | In its owner's words
PageAnswer.description | As the page describes itself
detail | Why, in words
digest | The archive's SHA-1 of the payload, in base32
digest_check | Our own SHA-1 of the bytes against the listed digest
discovered | Every row that archives listed: the sum of the others
domain | The URL that a domain is collected by
CaptureFilter.domain | The domain's number
ListedCaptureAnswer.domain | The domain's number
RulesAnswer.domain | The domain's number
domain_id | The domain's number
domain_url | The URL that its domain is collected by
domains | How many domains
ProjectStatisticsAnswer.domains | The 200 with the most captures
done | How much of it is done
dry_run | Nothing is changed: only counted
egress | The address that archives see, by its operator's name
email | Their address
enabled | It begins runs
ended | They would be skipped now, but what became of them stays
errors | Each part of the request that breaks a rule
estimate | What it would take; null while it is being listed
every | Seconds from one run to the next
evicted | Answers that had to go for want of room
expires_at | Until when it is good
expires_in | So many seconds it is good
expires_in_days | So many days it is good
extractor | What read it, with its version
facets | Of each field its most frequent values, with how many pages have each
failed | Could not be had, for now
SearchRequest.facets | Fields whose values are to be counted
Captures.failed | Could not be had, by reason
fault_count | How much does not add up
faults | What does not add up, in words
fetched | Its bytes are those that were replayed
PageAnswer.fetched | How its bytes came here
fetches | By state and reason
field | Where it stands in the request; a part of a list by its number from 0
filter | Which captures, instead of `ids`
filters | What each rule leaves out
finished_at | When it ended, else null
first | The run that stands for its collection, or itself
first_seen | The first capture that showed it
fix | What to do about it
flags | Any of thin, empty, cut, depth, replaced, truncated
force | Also what ended for its own bytes
form | Of the files or lines
from | In or after: 2001, 200103, 2001-03-09 or up to 14 digits; empty: from the beginning
given_up | That capture is not asked for again
goal | plan: it is only listed; run: it is fetched, too
gone | Listed, and not in the archive
here | Of this process
hits | Answers from the cache
SearchAnswer.hits | The pages found, in the order asked for
holders | Whose connections they are
hole_details | The first of its holes
holes | Parts of listings that could not be had
CertificateAnswer.holes | Parts of the listing that could not be had, each
host | The URL's host, `www.` kept
CaptureFilter.host | A URL's host, with www or without; `*.example.org` is that and all below it
NeighboursAnswer.host | Pages of its host that were first seen nearest to it
hours | Its budget takes at least so long; null for one without a limit
href | As it stands in the page: never resolved, and maybe anything
hunks | The places where they differ
id | Its number
ids | Which, by their numbers, instead of `filter`
idle_in_transaction | Connections with an open transaction that ask nothing
in_flight | Under way now
in_use | Connections that somebody uses now
indexed | So many of the pages can be searched for
items | This part of the list
joined | Exactly this was asked for already and goes on: nothing was added
key | The key itself, shown this once; empty in a repeated answer
kind | What kind it is
known | Ended in an earlier run already
language | Of the text, by two letters; empty where nobody knows
last_activity | When anything of it last changed
last_run | The first run of the newest collection that it began
last_seen | The last capture that showed it
last_state | The state of that run
leased | Being fetched
leased_until | So long it is somebody's to fetch
left | How many stay as they are
left_by | Those that stay, by the state and reason that they stand in
length | Bytes, as the archive lists them
limit | At most so many items
lines | Its lines, with three around that are the same
links | In their order in the page
listed | Rows that were listed
listing | Parts of the listing still to be walked
listing_requests | Requests for listings
listings_leased | Parts of listings being walked
locator | Where the record lies, where no address shows it
longest | Seconds of the longest statement under way
looked | Captures that were decided again
made_at | When it was counted
match | Which URLs belong to it: exact, prefix, host or domain (with all hosts below)
memento | The archive's own address of it
mementos | The capture that was fetched, the first and the last, each to be cited
memory | Bytes
memory_free | Bytes that nobody has reserved
message | What is wrong with it
milliseconds | Until it answered
mimetype | The media type
misses | Answers that were not there
more | Only the first of them were counted
most | So many there may be
moved | Waiting payloads that would get another place
n | How many
name | Its name
ExportFile.name | Of the file, below the export
UserAnswer.name | The name they gave themselves
new_password | The password that is to be
next | `cursor` for what comes behind; null at the end
next_at | When it begins a run next
nodes | The machines of the cluster
notes | How many notes it has
offset | How many hits to pass over
open | Connections that are open
page | The page's number; null without one
pages | How many pages
pages_indexed | Pages that can be searched for
pages_kept | Pages of the listing that are kept as the archive sent them
pages_rejected | Pages that the index does not take
parked_until | When it is tried next
parts | Its parts by name
ExportAnswer.parts | Files that are written by now
password | Their password
OneTimePassword.password | Good for one login, which sets another; shown this once
paused_until | So long it is left alone; null when it is not
payloads | Bodies that are kept, each once
pending | Waits, or is being fetched
prefix | Its first characters, by which it is known
priority | The place of captures that wait: now, high, normal or low
project | The project's name
BulkRequest.project | The project's number
CollectionRequest.project | The project's number
DiscoverRequest.project | The project's number
PageAnswer.project | The project's number
PageRow.project | The project's number
ScheduleMade.project | The project's number
StarAnswer.project | The project's number
WholeCaptureAnswer.project | The project's number
ProjectStatisticsAnswer.project | The project's number
ScheduleRequest.project | The project's number
project_id | The project's number
project_name | The project's name
projects | The names of all projects that the answer tells of, by number
published | The day that the page says it is of
queue | The queue class
queued | Waiting to be fetched
queues | By project and queue class
reason | Why it stands there
reasons | Only what ended for one of these; none: for any
redecision | How far the listed captures are decided again by them; null when none ever were
refresh_expires_in | So many seconds the refresh token is good
refresh_token | Good once, for the next pair: POST /auth/refresh
refused | Not asked for, or not kept
Captures.refused | Not asked for, or not kept, by reason
removed | Lines that only the earlier text has
renamed | Skipped as before, for another reason
repeated | Rows that were the same in everything as another
replaced | Characters that could not be read
replay | For mementos
replay_requests | Requests for mementos
request_id | Of this request, as in the log and in X-Request-Id
requests | Requests to archives
result | What it came to
retrieved | When its bytes came here
review | What the project thinks of it
role | Their role
rows | Rows that are written by now
rows_listed | Rows that the archive listed
rss | Memory of its process in bytes
rule | Who decided: a rule's words, or `person:` and a user's number
rules | How many rules of its own it has
RulesAnswer.rules | A rule a line, as they are spelled
rules_version | Grows with every change of the rules
run | The run's number
runs | How many runs
BegunAnswer.runs | The runs of the collection, one an archive
ChangedAnswer.runs | The runs of the collection, one an archive
ClassAnswer.runs | The runs of the collection, one an archive
PlanAnswer.runs | The runs of the collection, one an archive
runs_by_state | The runs by their state
saved_at | When it was saved
schedule | The schedule's number
scopes | What it may be used for: each holds those before it
search | As it was asked; null for one of another version
SavedSearchRequest.search | What is to be searched for
seconds | So many seconds
RunDetail.seconds | Since it was created until its end or now, pauses among them
RunItem.seconds | Since it was created until its end or now, pauses among them
seen_at | Their last login
sending | Pages on the way to the index
served | The timestamp that the archive really answered with
settled_at | When it was fetched
sha1 | Of the payload, in base32 as archives have it
sha256 | Of the bytes, in hexadecimal
shortest | No shorter account of the difference is there
since | From when
ScheduleAnswer.since | Only what is new since the newest runs, less so many days; null: all
size | How large it is
VersionAnswer.size | Bytes of the payload
skipped | Not asked for, by a rule or a person
Captures.skipped | Not asked for, by reason
slice | The number of that part of the listing
slices | Parts of the listing
snippet | Where the words stand in the text
sort | The order
splits | Parts of the listing that were divided
stale | Answers that had been ended meanwhile
starred | The asker has starred it
starred_at | When that was
started_at | When somebody began it, else null
state | Where it stands
CaptureFilter.state | Where they stand
states | What became of the captures
statistics | What is held
status | What is said of it
HealthAnswer.status | ok; degraded: a part is away; down: the record is
Problem.status | The HTTP status
statuscode | The HTTP status that the archive saw
steps | By time
stored | Fetched
subject | Pages, or listed captures
tag | The tag
tags | Its tags
FlushRequest.tags | Of the answers that end; null for all
CacheContentsAnswer.tags | Tags that answers stand under
task | The task's number
BulkAnswer.task | The task that does it, where they are many; else null
tasks | Tasks that wait
tasks_leased | Tasks that somebody does
tasks_running | Tasks that somebody does
text | Plain text, to be shown as text
ChangeAnswer.text | The text is another
throttled | Requests that were turned away for their number
ticket | Good once, for one WebSocket
timestamp | The archive's 14 digits
title | Plain text, to be shown as text
ChangeAnswer.title | The title is another
Problem.title | What happened
to | In or before, to the last second of it; empty: to the end
token_type | How it is brought
total | How many there are in all
tries | Requests for it that brought nothing
type | A name of the kind of problem, as a URN
unchanged | Listed with bytes that are had by another capture
until | To when
url | Its URL
urlkey | The URL's key in SURT form, by which archives sort
used | Connections that are open in all
used_at | When it was last used; up to a minute old
user | The user's number
user_id | The user's number
version | Grows with every change
HealthAnswer.version | Of chrono_ray
wanted | Captures that are to be fetched
was_paused | It had been paused
weight | The project's share of the work, against that of others
when | 2001, 2001-03 or 2001-03-09, in UTC
withheld | What only `force` would try again, by state and reason
without_length | Captures whose size the archive does not list
words | How many words it has
ChangeAnswer.words | So many more words; negative: fewer
working | Who does it now; empty for nobody
written_at | When it was written
years | By the year that captures are of
capture_id | The capture's number
page_id | The page's number
run_id | The run's number
task_id | The task's number
note_id | The note's number
key_id | The key's number
export_id | The export's number
search_id | The saved search's number
schedule_id | The schedule's number
step | How long a step is
last-event-id | The `id` of the last event that was seen
?archive | Only of this archive
?cursor | `next` of the answer before
?domain | Only of this domain: by its number, in searches and exports by its URL
?form | jsonl, or csv
?host | A URL's host, with www or without: either finds both
?kind | Only tasks of this kind
?language | Only texts of this language, by two letters
?limit | At most so many
?mimetype | Only of this media type
?name | Its name
?offset | How many hits to pass over
?project | Only of this project, by its number
?reason | Only what stands there for one of these
?review | Only what the project thinks so of
?run | Only of this run, by its number
?seconds | The stream ends after so many; without it with the right to listen
?sort | The order
?starred | Only what the asker has starred, or has not
?state | Only what stands so
?statuscode | Only what the archive saw with one of these
?subject | Pages, or listed captures
?tag | Only what is tagged so
?task | Only this task, by its number
?to | In or before
"""
MEANINGS: Final[Mapping[str, str]] = {
    name.strip(): meaning.strip()
    for line in _PARSED.strip().splitlines()
    for name, _, meaning in [line.partition("|")]
}

SCHEMAS: Final[Mapping[str, str]] = {
    "ActorsAnswer": "The workers' last answers.",
    "ArchivesAnswer": "What each archive allows, and how long a request to it waits.",
    "BudgetsAnswer": "The budgets of all archives.",
    "ClusterAnswer": "The machines of the cluster, and the workers on them.",
    "FlushedAnswer": "How much was freed.",
    "Kind": "What a message is about.",
    "PausedAnswer": "An archive that is left alone.",
    "QueueDepthsAnswer": "What waits, by queue class, and how far the index is behind.",
    "ResumedAnswer": "An archive that is asked again.",
    "Role": "What somebody is here: a user, or an admin.",
    "ScheduleMade": "A schedule that was made.",
    "Sort": "The order of hits.",
    "YearAnswer": "The captures of a year, and what they would cost.",
}
