package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// ackedWithin is how long JetStream may take to acknowledge a batch.
	ackedWithin = 30 * time.Second
	messageID   = "Nats-Msg-Id" // by which JetStream knows a message that it has (its documentation, "Message deduplication")
)

// stream is a JetStream stream that is this journal's alone. What it has last says where to go on, so nothing comes twice, and what it lost of what it had comes again.
type stream struct {
	sink     Sink
	subject  string
	conn     *nats.Conn
	js       jetstream.JetStream
	last     uint64 // of the stream, by its own count, once all that was published is taken
	have     uint64 // newest record that was in it when it was opened
	haveLine []byte // that record
	position uint64
	over     chan error
}

func openStream(ctx context.Context, s Sink) (_ *stream, err error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	n := &stream{sink: s, subject: s.Subject, over: make(chan error, 1)}
	n.conn, err = nats.Connect("tls://"+s.Address, nats.Secure(config), nats.Timeout(openWithin), nats.NoReconnect(), nats.Name("shekara export of "+s.Site),
		nats.CustomInboxPrefix("_INBOX."+s.Subject), // a server can let each edge have its own alone: answers to others are none of its business
		nats.ClosedHandler(func(c *nats.Conn) {
			why := c.LastError()
			if why == nil {
				why = fmt.Errorf("%s closed the connection", s.Address)
			}
			n.over <- why // once: a closed connection is not opened again
		}))
	if err != nil {
		return nil, fmt.Errorf("NATS at %s: %w", s.Address, err)
	}
	if err := n.look(ctx); err != nil {
		n.conn.Close()
		return nil, fmt.Errorf("stream with subject %s at %s: %w", n.subject, s.Address, err)
	}
	return n, nil
}

// look finds the stream, and what it has.
func (n *stream) look(ctx context.Context) (err error) {
	if n.js, err = jetstream.New(n.conn, jetstream.WithPublishAsyncMaxPending(2*batchRecords)); err != nil {
		return err
	}
	name, err := n.js.StreamNameBySubject(ctx, n.subject)
	if err != nil {
		return err
	}
	found, err := n.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	if err := keepsEnd(found.CachedInfo().Config); err != nil {
		return err
	}
	n.last = found.CachedInfo().State.LastSeq
	id, line, err := n.newest(ctx, name)
	if err != nil || line == nil {
		return err
	}
	digits, ours := strings.CutPrefix(id, n.sink.Site+"/")
	if n.have, err = strconv.ParseUint(digits, 10, 64); !ours || err != nil {
		return fmt.Errorf("its last message has the id %.80q, which is no record of %s: give each edge a stream of its own", id, n.sink.Site)
	}
	n.haveLine = line
	return nil
}

// keepsEnd is why a stream cannot say by its last message what it got. Where messages leave it when they are old, or taken, one that is empty may have had all, and would be sent the whole
// journal again. By number and size only the oldest leave, when others come.
func keepsEnd(c jetstream.StreamConfig) error {
	switch {
	case c.Retention != jetstream.LimitsPolicy:
		return fmt.Errorf("its retention is %s, so its messages leave it when they are taken: make it anew with --retention limits", c.Retention)
	case c.MaxAge > 0:
		return fmt.Errorf("its messages leave it after %s: nats stream edit %s --max-age 0, and limit it with --max-bytes or --max-msgs", c.MaxAge, c.Name)
	}
	return nil
}

// newest is the stream's last message of our subject; nil: there is none. Only the stream's leader answers this question. Where the stream allows direct gets, as nats stream add makes
// it, jetstream's own methods ask whichever replica answers first: one that lags would have us send again what the leader has.
func (n *stream) newest(ctx context.Context, name string) (id string, line []byte, err error) {
	question, err := json.Marshal(map[string]string{"last_by_subj": n.subject})
	if err != nil {
		return "", nil, err
	}
	reply, err := n.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+name, question)
	if err != nil {
		return "", nil, err
	}
	var answer struct {
		Error   *jetstream.APIError
		Message *struct {
			Headers []byte `json:"hdrs"`
			Data    []byte
		}
	}
	switch err := json.Unmarshal(reply.Data, &answer); {
	case err != nil:
		return "", nil, fmt.Errorf("its last message: %w", err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return "", nil, nil
	case answer.Error != nil:
		return "", nil, answer.Error
	case answer.Message == nil:
		return "", nil, errors.New("JetStream answers the question for its last message with none")
	}
	header := nats.Header{}
	if len(answer.Message.Headers) > 0 {
		if header, err = nats.DecodeHeadersMsg(answer.Message.Headers); err != nil {
			return "", nil, fmt.Errorf("its last message: %w", err)
		}
	}
	return header.Get(messageID), append([]byte{}, answer.Message.Data...), nil
}

// send publishes the records that the stream lacks. Each is to be taken only right behind the one before it, so that where one is not taken, none after it is.
func (n *stream) send(ctx context.Context, position uint64, records []record) error {
	ctx, cancel := context.WithTimeout(ctx, ackedWithin)
	defer cancel()
	before := n.last
	var waiting []jetstream.PubAckFuture
	for _, r := range records {
		if r.event.Sequence <= n.have {
			if r.event.Sequence == n.have && !bytes.Equal(r.line, n.haveLine) {
				return fmt.Errorf("record %d in the stream is not the journal's: the stream holds another journal", n.have)
			}
			continue
		}
		m := &nats.Msg{Subject: n.subject, Data: r.line, Header: nats.Header{messageID: {n.sink.Site + "/" + strconv.FormatUint(r.event.Sequence, 10)}}}
		future, err := n.js.PublishMsgAsync(m, jetstream.WithExpectLastSequence(n.last))
		if err != nil {
			return err
		}
		n.last++
		waiting = append(waiting, future)
	}
	for i, future := range waiting {
		select {
		case ack := <-future.Ok():
			if place := before + 1 + uint64(i); ack.Sequence != place {
				return fmt.Errorf("JetStream at %s takes %s for message %d, a duplicate, which is not where it belongs: if that was removed, its place can be filled when the stream's window for duplicates is over",
					n.sink.Address, future.Msg().Header.Get(messageID), ack.Sequence)
			}
		case err := <-future.Err():
			return err
		case <-ctx.Done():
			return fmt.Errorf("JetStream at %s does not acknowledge: %w", n.sink.Address, ctx.Err())
		}
	}
	n.position = position
	return nil
}

// settled is nothing as long as it is not known that the stream holds this journal.
func (n *stream) settled(time.Time) (delivered, held uint64) {
	if n.position < n.have {
		return 0, 0
	}
	return n.position, n.position
}

func (n *stream) ended() <-chan error { return n.over }

func (n *stream) close() error {
	n.conn.Close()
	return nil
}
