"""The loop that joins claim, deliver and settle: slots, wake-ups, drain.

    while running:  settle the answers there are -> claim up to the free slots -> deliver

One thread speaks to the database; the deliverer's threads only put answers into a queue.
"""

import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Protocol

from django.db import Error, connection, reset_queries
from django.utils import timezone
from django.utils.module_loading import import_string

from ..conf import conf
from ..delivery.calls import LARGE, Delivery, GoOn, make_deliverer
from ..delivery.repeated import out_of_answer
from ..redact import answer_scrubber
from ..rules.decide import Answer, Bounds, Completed, Failed, decide
from ..rules.names import new_id
from ..rules.payload import payload
from ..sql.patience import is_outage, is_refusal
from ..sql.prepared import prepared
from ..store import changes, cut_calls
from . import claim, failpoints, settle
from .barred import Barred
from .haste import hastily
from .heartbeat import Heart
from .idle import Rest, gather
from .lane_walk import Walk
from .lease import Lease
from .ledger import BATCH_BYTES, Appetite, Ledger, weight
from .rescue import strays
from .set_aside import IN_TURN, Aside
from .settlement import Returned, Settlement, Why

logger = logging.getLogger("crew.engine.scheduler")

POLL = 1.0  # seconds: the truth, where a wake-up is only a hint
CROWDED_POLL = 0.1  # seconds: due tasks are there, but others have their room or their lock
BATCH = 500  # settlements in one transaction
STOPS_WITHIN = 5.0  # seconds for what is aside
BUSY = 1.0  # seconds after the last claim that found tasks: what can wait gives way for so long
RETRY_MOST = 5.0  # seconds between two tries while the database is away
LOOK_FOR_CUTS = 0.5  # seconds between two looks for calls of ours that people gave up
CUT_SETTLES_WITHIN = 5.0  # seconds for what the end of the drain cuts
SMALL = 1_000  # characters of an input: to leave it costs less than to make a lease without it


class Throttler(Protocol):
    """What an embedder supplies by CREW_THROTTLER, beside the limit that each worker's row has.

    Both are called in the scheduler's own thread and must not block.
    """

    def push(self, task_id: str, worker: str) -> float:
        """Seconds to keep a task back, 0 to send it now. A task kept back is claimed again."""

    def pop(self, task_id: str, worker: str) -> None:
        """A delivery that `push` let through has ended."""


class Scheduler:
    """One scheduler process: up to `slots` calls in flight."""

    def __init__(self, *, slots: int | None = None, once: bool = False) -> None:
        self.slots = slots or conf.CREW_SLOTS
        self.once = once
        self.me = new_id()
        self._wake = changes.work_arrived
        self._news = changes.News()
        self._rest = Rest(self._wake, self._news)
        self._answers: deque[tuple[Delivery, Answer]] = deque()
        self._in_flight: dict[tuple[str, int], Lease] = {}
        self._unsettled: list[Settlement] = []
        self._unsettled_bytes = 0
        self._aside = Aside(self.me, self._wake)
        self._barred = Barred(self.me)
        self._ledger = Ledger(lambda: self._aside.bytes)
        self._appetite = Appetite(self.slots)
        self._busy: Counter[str] = Counter()
        self._answering: set[str] = set()  # workers whose last call was answered
        self._walk = Walk()
        self._stop_at: float | None = None
        self._is_drained = False
        self._failures = 0
        self._doubtful_until = self._doubted_at = 0.0
        self._cuts_at = 0.0  # when to look for them again
        self._claimed_at = -BUSY
        self._deliverer = make_deliverer(conf.CREW_DELIVERER)
        self._scrubber = answer_scrubber()
        self._throttler: Throttler | None = (
            import_string(conf.CREW_THROTTLER)() if conf.CREW_THROTTLER else None
        )
        self._heart = Heart(self.me, slots=self.slots, wake=self._wake)
        self._heart.on_lost = self._deliverer.cancel
        self._heart.is_busy = lambda: time.monotonic() < self._claimed_at + BUSY
        self._deliverer.on_sent = self._on_sent
        self._deliverer.ask = self._ask

    def run(self) -> None:
        """Work until `stop` was called and the calls in flight are settled.

        With `once`: until nothing is due and nothing in flight.
        """
        self._heart.start()
        self._deliverer.start(self._on_answer)
        logger.info("Scheduler %s started with %s slots", self.me, self.slots)
        try:
            with prepared():
                self._work()
                self._news.tell()
        finally:
            self._deliverer.stop()
            self._aside.stop(STOPS_WITHIN)
            self._heart.stop(gone=self._is_idle() and not self._failures)
            logger.info("Scheduler %s stopped", self.me)

    def stop(self, *, drain: float | None = None) -> None:
        """Claim no more; end when all calls in flight are settled.

        After `drain` seconds (CREW_DRAIN_SECONDS) they are cut, and settled as interrupted.
        """
        seconds = conf.CREW_DRAIN_SECONDS if drain is None else drain
        self._stop_at = time.monotonic() + seconds
        self._wake.set()

    def tick(self) -> float:
        """One turn: settle what is answered, claim, deliver. Return the seconds to rest."""
        gather(self._answers, self._in_flight)
        self._take_answers()
        self._look_for_strays()
        self._cut_given_up()
        with self._news.gathered():
            claimed = self._settle_and_claim()
            self._let_answers_go_on()
            if claimed is None:
                return POLL
            if claimed.leases:
                self._claimed_at = time.monotonic()
            self._send(claimed.leases)
            self._return(claimed.unfit, sent=len(claimed.leases))
        if claimed.goes_on:
            return 0.0  # there are more lanes than one claim looks at
        if claimed.more:
            return 0.0 if claimed.leases else CROWDED_POLL
        # What was just sent may be answered by now; a full rest waits for nothing else.
        most = CROWDED_POLL if claimed.leases and self.once else POLL
        return most if claimed.wait is None else min(most, claimed.wait + 0.001)

    # --- The turn, step by step ---

    def _work(self) -> None:
        while self._goes_on():
            self._end_drain()
            wait = self._safe_tick()
            if self.once and wait and self._is_over():
                break
            self._rest.at_most(self._not_after(wait), peeking=not self._failures)

    def _not_after(self, wait: float) -> float:
        """So many seconds, or less if there is something to look at before."""
        times = [self._cuts_at] if self._in_flight else []
        if self._stop_at is not None:
            end = CUT_SETTLES_WITHIN if self._is_drained else 0.0
            times.append(self._stop_at + end)
        return min([wait, *(max(0.0, at - time.monotonic()) for at in times)])

    def _end_drain(self) -> None:
        """At the drain limit cut what still runs: it is settled as interrupted before we end."""
        if self._stop_at is None or self._is_drained or time.monotonic() < self._stop_at:
            return
        self._is_drained = True
        if self._in_flight:
            logger.warning("The time to drain is over: %s calls are cut", len(self._in_flight))
            self._deliverer.cancel()

    def _take_answers(self) -> None:
        now = timezone.now()
        bounds = Bounds(
            conf.CREW_MAX_ANSWER_BYTES, conf.CREW_MAX_INPUT_BYTES, conf.CREW_MAX_CHILDREN
        )
        while (
            self._answers and len(self._unsettled) < BATCH and self._unsettled_bytes < BATCH_BYTES
        ):
            delivery, answer = self._answers.popleft()
            settlement = self._settlement(delivery, answer, bounds, now)
            size = len(answer.body)
            self._unsettled_bytes += size if size <= LARGE else weight(settlement)
            self._unsettled.append(settlement)
        if self._unsettled:
            failpoints.reach("after_answer")
        if self._answers:
            self._wake.nudge()

    def _settle_and_claim(self) -> claim.Claimed | None:
        """Write the settlements there are, and claim up to the slots that are free then.

        In one transaction: a commit is what a hop of a chain waits for. None: nothing is claimed.
        """
        self._unsettled = self._aside.sift(self._unsettled)
        self._walk.hear(self._wake.arrivals)
        if not all(isinstance(s.outcome, Completed) for s in self._unsettled):
            self._walk.look_again()  # they come back to their lanes, and so do their duplicates
        free = self.slots - len(self._in_flight)
        may_claim = self._heart.may_claim and self._aside.has_room
        claims = self._stop_at is None and free > 0 and may_claim
        claims = claims and not self._appetite.waits(self._ledger.room())
        alone = any(settlement.answers_again for settlement in self._unsettled)
        if self._unsettled and claims and not self._failures and not alone:
            try:
                return self._in_one_transaction(free)
            except Exception as error:
                why = settle.why_not(error)
                if why is None:
                    raise
                logger.debug("Settling apart from the claim: %s", error)
                if why is not Why.REFUSED:  # of one answer; settled apart it harms no other
                    self._aside.put(settle.left(self._unsettled, why))
                    self._forget_settled()
        self._settle()
        return self._claim_alone(free) if claims else None

    def _claim_alone(self, free: int) -> claim.Claimed:
        try:
            return self._claim(claim.claim, free)
        except Exception as error:
            if not is_refusal(error) or not self._barred.look():
                raise
            return self._claim(claim.claim, free)

    def _claim(self, take: Callable[..., claim.Claimed], free: int) -> claim.Claimed:
        return take(
            self.me,
            slots=min(free, self._appetite.most),
            total=self.slots,
            busy=self._busy,
            answering=self._answering,
            walk=self._walk,
            beside=self._aside.closed(),
            barred=self._barred.tasks(),
            room=self._ledger.room(),
        )

    def _look_for_strays(self) -> None:
        """Take back what a failed turn claimed: its COMMIT may be done, or still be under way.

        So we look in the next turn, then once a second, for as long as a lease would have lasted.
        """
        now = time.monotonic()
        is_early_or_over = now > self._doubtful_until or now < self._doubted_at + POLL
        if is_early_or_over and not self._failures:
            return
        self._doubted_at = now
        known = self._known() | self._aside.known()
        self._unsettled += [Settlement(lease, Returned()) for lease in strays(self.me, known=known)]
        cut_calls.end_unknown(self.me, known=known)

    def _known(self) -> set[tuple[str, int]]:
        """The attempts of which the answer is still to come, or to be tried in a turn."""
        unsettled = {(s.lease.task_id, s.lease.attempt) for s in self._unsettled}
        return self._in_flight.keys() | unsettled

    def _let_answers_go_on(self) -> None:
        if self._ledger.has_answers:
            self._ledger.keep(self._known(), self._aside.full())

    def _cut_given_up(self) -> None:
        """End the calls whose leases were taken away: what they take is free when they are settled.

        A verb wakes us, but it may be missed.
        """
        now = time.monotonic()
        if now < self._cuts_at or not self._in_flight:
            return
        self._cuts_at = now + LOOK_FOR_CUTS
        if given_up := cut_calls.given_up(self.me) & self._in_flight.keys():
            self._deliverer.cut(given_up)

    def _settle(self) -> None:
        if self._unsettled:
            self._walk.look_again()
            with hastily(IN_TURN):
                self._aside.put(settle.settle_each(self._unsettled).left)
        self._forget_settled()

    def _forget_settled(self) -> None:
        self._unsettled.clear()
        self._unsettled_bytes = 0

    def _in_one_transaction(self, free: int) -> claim.Claimed:
        with settle.whole():
            touched = changes.ChangedTasks()
            with hastily(IN_TURN):
                settled = settle.settle_within(self._unsettled, touched)
            claimed = self._claim(partial(claim.claim_within, touched=touched), free)
        self._aside.put(settled.left)
        self._forget_settled()
        return claimed

    def _settlement(
        self, delivery: Delivery, answer: Answer, bounds: Bounds, now: datetime
    ) -> Settlement:
        lease = self._in_flight.pop((delivery.task_id, delivery.attempt))
        self._busy[lease.worker] -= 1
        (self._answering.discard if answer.status is None else self._answering.add)(lease.worker)
        if self._throttler:
            self._throttler.pop(lease.task_id, lease.worker)
        if answer.repeats is None:
            answer = out_of_answer(self._scrubber, answer)
        try:
            outcome = decide(
                answer,
                workgroup=lease.workgroup,
                bounds=bounds,
                now=now,
                error_delay=lease.error_delay,
            )
        except Exception as error:
            logger.exception("The answer to task %s could not be read", lease.task_id)
            return Settlement(lease, Failed(f"the answer could not be read: {error!r}"[:4_096]))
        return Settlement(
            lease, outcome, answer.status, answer.transcript, answer.may_run, answer.fault
        )

    def _send(self, leases: Sequence[Lease]) -> None:
        if leases:
            failpoints.reach("after_claim")
        sent: dict[tuple[str, int], Lease] = {}
        deliveries: list[Delivery] = []
        pieces: dict[str, bytes] = {}
        for lease in leases:
            wait = self._throttler.push(lease.task_id, lease.worker) if self._throttler else 0.0
            if wait > 0:
                self._unsettled.append(Settlement(lease, Returned(wait)))
            elif lease.too_large:
                self._unsettled.append(Settlement(lease, Failed(lease.too_large)))
            elif (key := (lease.task_id, lease.attempt)) in self._in_flight:
                # A task recreated under the id of one deleted while it ran. What still comes is
                # the answer to that one: it may not fit this lease, nor may both be one attempt.
                self._in_flight[key] = replace(self._in_flight[key], leased_by="")
                self._unsettled.append(Settlement(lease, Returned()))
            else:
                body = payload(lease.task_id, lease.worker, lease.input_json, lease.parents, pieces)
                sent[key] = _bare(lease)
                deliveries.append(Delivery(lease.task_id, lease.attempt, lease.worker, body))
        if self._unsettled:
            self._wake.nudge()
        if deliveries:
            self._begin(deliveries)
            # Only now: what an error leaves unsent is not in flight, and taken back.
            self._in_flight.update(sent)
            self._busy.update(lease.worker for lease in sent.values())
            failpoints.reach("after_send")

    def _begin(self, deliveries: Sequence[Delivery]) -> None:
        large = {each.key: len(each.body) for each in deliveries if len(each.body) > LARGE}
        self._ledger.sends(large)
        try:
            self._deliverer.send(deliveries)
        except BaseException:
            self._ledger.forget(large)
            raise

    def _return(self, unfit: Sequence[Lease], *, sent: int) -> None:
        back = self._appetite.went(sent=sent, unfit=len(unfit))
        if unfit:
            self._unsettled += [Settlement(lease, back) for lease in unfit]
            self._wake.nudge()

    # Called from the deliverer's threads

    def _on_sent(self, delivery: Delivery) -> None:
        if self._ledger.sent(delivery.key):
            self._wake.nudge()

    def _ask(self, delivery: Delivery, size: int, go_on: GoOn) -> bool:
        lease = self._in_flight.get(delivery.key)
        return self._ledger.ask(delivery.key, lease.group_id if lease else "", size, go_on)

    def _on_answer(self, delivery: Delivery, answer: Answer) -> None:
        self._ledger.came(delivery.key, answer)
        self._answers.append((delivery, answer))
        self._wake.nudge()

    # --- Around the turn ---

    def _safe_tick(self) -> float:
        """A turn that outlives every error; settlements not written are tried again."""
        reset_queries()  # with DEBUG Django keeps the last 9,000 statements, payloads and all
        try:
            wait = self.tick()
        except Exception as error:  # the loop must outlive every error
            self._failures += 1
            self._appetite.failed()
            self._doubtful_until = time.monotonic() + conf.CREW_LEASE_SECONDS
            if self._failures == 1:
                logger.warning(
                    "A turn failed: %s; trying again", error, exc_info=not is_outage(error)
                )
            self._reconnect()
            pause = min(RETRY_MOST, 0.05 * float(2 ** min(self._failures, 10)))
            return pause * random.uniform(0.8, 1.2)  # noqa: S311
        if self._failures:
            logger.info("Turns work again after %s failures", self._failures)
            self._failures = 0
        return wait

    def _reconnect(self) -> None:
        if connection.in_atomic_block:
            return  # a test's own transaction
        try:
            connection.close()
        except Error:
            logger.debug("A broken connection could not be closed", exc_info=True)

    def _goes_on(self) -> bool:
        if self._stop_at is None:
            return True
        is_done = self._is_idle() and not self._failures
        return not is_done and time.monotonic() < self._stop_at + CUT_SETTLES_WITHIN

    def _is_over(self) -> bool:
        """Whether nothing is due any more, when nothing was claimed."""
        return self._is_idle() and not self._failures and not self._appetite.is_put_off

    def _is_idle(self) -> bool:
        return not (self._in_flight or self._answers or self._unsettled or len(self._aside))


def _bare(lease: Lease) -> Lease:
    """Without what is large: what went into the body is in memory there, and nowhere else."""
    if not lease.parents and len(lease.input_json or "") <= SMALL:
        return lease
    return replace(lease, input_json=None, parents=())
