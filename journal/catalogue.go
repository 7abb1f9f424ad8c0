package journal

import (
	"fmt"
	"strings"
	"sync"
)

// Entry is one line of the catalogue.
type Entry struct {
	Type    Type
	Meaning string // one sentence
}

// Catalogue lists every type that Append takes, with what it means.
func Catalogue() []Entry {
	return []Entry{
		{DaemonStart, "The daemon started; fields name its version and the revision that it brings up."},
		{DaemonStop, "The daemon stopped in order; what it made on the host stays."},
		{DaemonOverload, "The daemon does not keep up; fields count by what that shows: turns of its loop or writes to the journal's disk that take too long, events that wait for the disk or found no room, news that the kernel dropped. What is missing is on record of its own. Told once, until daemon.recover or a daemon.start."},
		{DaemonRecover, "The daemon has kept up again for a minute; fields have the counts of the whole overload, and its bounds (since, until)."},
		{HostFail, "A step that belongs to no single tunnel was refused by the host; it is tried again later and everything else goes on."},
		{HostClean, "Everything that bears our name was removed from the host."},
		{DocumentsReject, "Documents were refused, or those of the revision in force have become invalid and are left out."},
		{PlanMake, "Somebody asked what documents would change."},
		{ApplyStart, "The intent to apply a revision is on disk and its first step follows."},
		{ApplyFinish, "A revision is in force; fields count what it changed and which tunnels have an error of their own."},
		{ApplyFail, "A revision could not be applied and the one before is in force again."},
		{ConfirmWait, "A revision is in force but is undone unless it is confirmed by the time in the fields."},
		{ConfirmDone, "Somebody confirmed a revision in time."},
		{RevisionRevert, "A revision was undone: nobody confirmed it in time, or somebody rolled it back."},
		{DriftFind, "The host differs from the revision in force; fields say in what, who made it so as far as the kernel tells, and what he did."},
		{DriftRepair, "What differed was made as the revision says."},
		{DriftStop, "Repairs stopped: the same box was repaired three times within a minute, so somebody or something keeps changing it."},
		{DriftResume, "Somebody let repairs go on."},
		{DriftPass, "Somebody changed what is ours and by the next look it was as the revision says again; fields say who and what, as far as the kernel tells."},
		{ForeignFind, "Something of others stands before what is ours: a chain at a hook that our traffic passes and that can drop or change it, or a rule or route that is asked first. It is left as it is; fields say who made it, as far as the kernel tells."},
		{ForeignEnd, "Something of others that stood before what is ours is gone."},
		{WatchGap, "The kernel dropped notifications, because too many came at once: who made some changes is not known. The whole host was looked at instead."},
		{ProofHold, "What is loaded was proved to be what the documents of the revision allow, for all packets: the first time for this revision, or again after it was not so."},
		{ProofBreak, "What is loaded is not what the documents allow; fields have a witness packet and the loaded rule that lets it through or stops it."},
		{ProofDoubt, "Whether what is loaded is what the documents allow cannot be decided; the message names each reason."},
		{HoldBegin, "Somebody works by hand: drift is reported but not repaired until the time in the fields."},
		{HoldEnd, "The hold ended and drift is repaired again."},
		{TunnelState, "A tunnel's state changed; fields name the state before and after."},
		{TunnelRoam, "The far end of a tunnel is at another address or port than before, as its last authenticated packet shows; fields name both, and how often it moved since the event before. Told once a minute for each tunnel."},
		{TunnelFail, "A tunnel has an error of its own and is tried again later; the others go on."},
		{TunnelRecover, "A tunnel's own error is gone."},
		{TunnelReset, "A tunnel that was stuck in its handshake was reset alone."},
		{TunnelLimit, "A tunnel wants more than its limits let it, and what is beyond is dropped; fields say by which rule. Told once a minute for each tunnel."},
		{ClockSynchronise, "Somebody keeps the clock again, by the kernel's word; fields say how wrong it may be. Told once a minute, with how often it changed since the event before."},
		{ClockLose, "Nobody keeps the clock: not any more, or not since the daemon started; how wrong the times of records are is not known until clock.synchronise, or a daemon.start after which it is not told again. Told once a minute, with how often it changed since the event before."},
		{ClockStep, "The clock was set by more than a second; fields have what it would show and what it shows, and how often it was set since the event before. Told once a minute."},
		{TimeState, "How far the clock is kept, as the TimeService in force measures it, changed: synchronised, holdover (no source confirms it, and the bound of its error grows) or unsynchronised, or unwatched where no TimeService is in force any more; fields have the state before and after, the bound, and by which source. With the second and third look at the sources: shekara time status."},
		{TimeSource, "What is thought of a source of time changed; fields have it before and after, and its offset. Told once a minute for each source, with how often it changed since the event before."},
		{TimeWarn, "Something about the time should be looked after: the clock is wrong by more than the TimeService's warnOffset, fewer than three sources answer, one tells another time than the majority, one is not authenticated, or shekarad time cannot do what its document asks. Field `state` says whether it begins or is over."},
		{TimeServe, "A legal day is over: how many requests for the time were answered and refused, of all, and in an event of its own for each System that asked. That has, where its requests told, by how much its clock was ahead of ours less the time on the way: `offset` by the last of them, at `offsetAt`, and `offsetFarthest`, looked at once a second."},
		{TimeFail, "shekarad time does not answer: nobody is served, and the bound on records is the kernel's word. systemctl status shekara-time."},
		{TimeRecover, "shekarad time answers again."},
		{FilterClose, "At boot, before the network, nothing is forwarded; management is let in as the last confirmed revision says. The daemon's first ruleset takes its place."},
		{ConnectionStart, "A connection that a flow lets pass has begun; fields have its flow, addresses and ports as they were opened. At most ten a minute for a flow and 120 for all are told one by one, of beginnings and of ends."},
		{ConnectionEnd, "A connection that a flow lets pass has ended; fields have besides what it carried each way, when it began and how long it lived."},
		{ConnectionSum, "So many more connections began and ended within a minute; fields count them, and what those that ended carried, exactly."},
		{ForwardStop, "Nothing is forwarded any more, as events cannot be recorded and the Site says `unrecorded: stop`. Tunnels stay up, and who may manage the box may go on."},
		{ForwardResume, "What the flows let pass passes again: events are recorded."},
		{FlowRevoke, "Connections that were established under a flow no longer declared were cut; fields say how many and which, when the filter closed, when a packet of them was last seen, and how many passed packets since."},
		{FlowEnd, "A flow is declared no more and its last connection has ended: its totals are let go, and are in the fields."},
		{FlowMiss, "What flows carried is not counted whole: connections ended while no daemon ran, or the kernel dropped news of them, between the times in the fields: then some that began or ended are on record neither. What they carried since they were looked at last is missing."},
		{PacketDrop, "The filter dropped a packet: fields name the rule, as `shekara explain` does, and say what the packet was; or, of the rule's last minute, how many more it dropped (suppressed)."},
		{PacketMiss, "Records of dropped packets were lost, because they came faster than they were read, or cannot be read any more; the packets are counted all the same."},
		{UnitMessage, "A systemd unit of the host said something, or systemd of it, or the kernel, as journald has it; the Site says which. The severity is from its priority (also a field: syslog's number); fields say when journald got it (at) and which program said it; control characters are written as they can be seen, a backslash as two. What is longer than 1,000 bytes so is cut (cut), and so is what has several texts, of which the first is told; of 4,088 bytes and more journalctl gives none, and there is no text. Of a unit, of each priority, and of what systemd says of it (manager) apart, 30 within a minute and 300 within an hour of when they were said are told one by one; of the others there is a count for a minute at most (suppressed), from the first of them (since) to the last (until). So who makes a unit say much hides the text of what it says with the same priority, as a login among many refused; beyond 10,000 in half a minute, or more where the disk has room, journald itself drops what is like that, and says so as systemd-journald.service. After a daemon that was killed the last may come twice."},
		{UnitMiss, "Messages of the host's units are not put on record, for a minute already: the message says why; what journald keeps meanwhile is read when it can be. Or some are missing between the times in the fields, as journald has them no more, or before one of them, as it is not known any more which are on record. Or journald has one, after the time in the field, that is too long to be read, or more of them than are told one by one (suppressed)."},
		{UnitResume, "Messages of the host's units are put on record again; fields say since when they were not, and until when."},
		{SinkFail, "Nothing has reached a monitoring centre, or another sink of the journal, for a minute; fields say up to which record it was sent to, how many are behind, and since when. It gets them when it is back."},
		{SinkRecover, "A sink that failed has been sent to again for a minute, or its document has been gone for one."},
		{IncidentOpen, "What happened comes to an incident, by the rule in the fields (docs/incidents.md), for the key that they name; fields have the sequences of the events that made it, how many they were, and what to do."},
		{IncidentClose, "An incident is over; fields say why, how many events it had, when it was opened and when its last event was."},
		{SecretMake, "A secret was made on the box; fields name it, never its value."},
		{SecretImport, "A secret was brought to the box."},
		{SecretExport, "A secret was sealed to a recipient and handed out."},
		{AccessRefuse, "Somebody asked for what they may not do."},
		{JournalLook, "Somebody looked at the journal through the daemon; told once a minute for each user, with how many looks before were not told (withheld), and who reads on from where he ended when he begins. Who may read its files, as root, is not seen by the daemon."},
		{JournalExport, "Somebody took the records of the tunnel or legal entity in the field `partition` out of the journal through the daemon; ten are told a minute for each user, and in the next how many were not (withheld)."},
		{JournalCut, "The journal ended in a record that was never acknowledged, as a power cut leaves it; it was set aside in the file that the fields name."},
		{JournalDamage, "A line of the journal that had been acknowledged cannot be read; the file is left as it is."},
		{JournalFull, "The disk of the journal has no room: this record lies in what was held in reserve for it. Until there is room changes are refused, but for reverts and revocations, and what comes in bulk (connections, dropped packets, limits, refusals, plans, looks, exports, messages of units) is only counted."},
		{JournalMiss, "Events were not recorded and are lost, because the disk was full, failed or did not answer, or more came than it took; the message says how many of which type, the fields how many and when."},
		{JournalResume, "The journal can be written again; fields say since when and until when it could not. Events that waited stand behind this, with the time at which they happened; where the daemon ended meanwhile the message says so, and what waited may be lost."},
		{JournalCheckpoint, "All records before this one are settled: fields hold their number, the root of their tree and, in `note`, both under the journal's signature; `clockSet` is by how much somebody set the clock since the one before, where that is more than a second. One is made every minute, so that silence shows, every thousand records, when somebody asks for one, where a file begins, and by a daemon that stops in order."},
		{JournalUnsigned, "The journal's key cannot be had: what happens is recorded all the same, and nobody can prove later that it was not changed. The message says why and what to do."},
		{JournalExpire, "The oldest day's records are so old that they go, as the Site says, never before three years: this is on disk and signed before they are removed. Fields say which (first, last, began, files, bytes) and, as in a checkpoint, what the tree was when they ended: verification of what is left goes on from there. Only with a clock that is kept, and when a centre has what goes and a record of the last hour; one day's records a day."},
		{KeyRotate, "Somebody had the journal go on with a new key: from here on that signs. Fields name both keys (old, new), and the note is signed by both, so that who has either verifies all."},
		{KeyLose, "The journal's key was lost, and somebody began with a new one (new), which alone signs the note: the chain of signatures breaks here, and verification names it. Compare what was signed before with checkpoints that are held elsewhere."},
	}
}

// bulk says whether there may be many: while the disk is full these are only counted.
func (t Type) bulk() bool {
	switch t {
	case ConnectionStart, ConnectionEnd, ConnectionSum, PacketDrop, TunnelLimit, AccessRefuse, PlanMake, JournalLook, JournalExport, UnitMessage:
		return true
	}
	return false
}

var types = sync.OnceValue(func() map[Type]bool {
	all := map[Type]bool{}
	for _, e := range Catalogue() {
		all[e.Type] = true
	}
	return all
})

func known(t Type) bool { return types()[t] }

// Reference is docs/events.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Events\n\nGenerated from journal/catalogue.go by `go test ./journal -update`; do not edit.\n\n")
	b.WriteString("Each event is one JSON object on a line: `sequence` (from 1, no gaps), `time` (UTC), `clockErrorMicroseconds` (how wrong that may be; absent: nobody keeps the clock), `type`, `severity`, `actor` (who asked; absent: the daemon itself), ")
	b.WriteString("`object` (what it is about, as `tunnel/NAME`), `organisation` (the legal entity at a tunnel's far end, as its Peer document has it), `systems` (the registered systems that it concerns: those of the addresses of a connection or of a dropped packet, of the flow of a sum of connections, or all that the tunnel reaches; sorted, at most 64), `message`, `fields` and ")
	b.WriteString("`links` ([journal-format.md](journal-format.md)).\n")
	b.WriteString("`shekara journal list` and `tail` choose by type, severity, object or tunnel, organisation, system, text, legal day and time (`--help`); the API takes the same words.\n\n")
	b.WriteString("| type | meaning |\n|---|---|\n")
	for _, e := range Catalogue() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.Type, e.Meaning)
	}
	return b.String()
}
