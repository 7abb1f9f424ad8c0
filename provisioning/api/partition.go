package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shekara/journal"
)

type partitionInput struct {
	Of string `query:"of" required:"true" minLength:"3" maxLength:"300" pattern:"^(tunnel|organisation|system)/." doc:"tunnel/NAME, organisation/NAME or system/NAME"`
}

// exportPartition answers with the records of one tunnel or legal entity and the proof of the last, or with those of a system. What goes wrong on the way ends the connection: half a partition is not to be taken for one.
func (s *Server) exportPartition(ctx context.Context, in *partitionInput) (*huma.StreamResponse, error) {
	actor := callerOf(ctx).actor
	s.recordWithin(&s.exports, journal.Event{Type: journal.JournalExport, Severity: journal.Notice, Actor: actor, Object: "journal",
		Message: fmt.Sprintf("user %s took the records of %s", name(actor), in.Of), Fields: map[string]string{"partition": in.Of}})
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", lines)
		if _, err := s.config.Journal.Export(r.Context(), in.Of, unhurried{w, http.NewResponseController(w)}); err != nil {
			s.config.Log.Error("export", "partition", in.Of, "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// unhurried gives each write its own time: what there is may take minutes, and a reader who takes nothing is let go.
type unhurried struct {
	to      io.Writer
	control *http.ResponseController
}

func (u unhurried) Write(b []byte) (int, error) {
	if err := u.control.SetWriteDeadline(time.Now().Add(streamWriteTime)); err != nil {
		return 0, err
	}
	return u.to.Write(b)
}
