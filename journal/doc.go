// Package journal is the record of events: every plan, apply, confirmation, revert, drift, tunnel state and administrator's act.
//
// A folder of files of JSON lines, each named by its first sequence number. An event is one line; Append returns when it is on
// disk, Post does not wait. While the disk is full or does not answer Append refuses, Post keeps in memory, and afterwards the journal says what is missing (docs/decisions/0011-evidence.md). A torn end, as a power cut leaves it, is set aside and recorded at the next start; it never stops one. All lines are leaves of one
// Merkle tree, whose root is signed every minute: Verify, offline and with the public key alone, says what was changed. RotateKey hands over to another key, so that either verifies all; a
// key that is lost is never made anew by itself (docs/journal-format.md). Files of days long over are
// compressed, and give the same lines. An index of each closed file keeps a question that selects little from reading much. Tend looks for
// damage in closed files, and puts it on record. docs/journal-format.md is the format.
//
// Owns: the Event type and its catalogue, the files under /var/lib/shekara/journal, their verification.
// Never: decides what happens; drops an event silently (Append returns after the record is on disk, or an error; what Post has no room for is counted, and the
// count recorded); removes a file, but copies (indexes), the reserve that it holds for a full disk, and one whose compressed form was read back as the same byte for byte;
// and the oldest, when they are older than the Site and the law ask, and a signed record of it is on disk (docs/decisions/0012-retention.md).
// Imports: netctl and its folders, golang.org/x/mod/sumdb, github.com/klauspost/compress/zstd. Beside export, provisioning and cmd alone import it.
// Test: go test ./journal (unprivileged; fails every commit point, cuts the power at every write, and kills a writing and compressing child). SHEKARA_KILLS=500 for the long one.
package journal
