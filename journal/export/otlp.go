package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	service "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"shekara/journal"
)

const protobufType = "application/x-protobuf"

// telemetry sends records as logs of OpenTelemetry: OTLP over HTTP, in protobuf (OTLP specification 1, "OTLP/HTTP").
type telemetry struct {
	*poster
	done uint64
}

func openTelemetry(ctx context.Context, s Sink) (*telemetry, error) {
	p, err := openPoster(ctx, s)
	if err != nil {
		return nil, err
	}
	return &telemetry{poster: p}, nil
}

// refusal is what the other end took and threw away, by its own word, besides what else went wrong.
type refusal struct {
	records uint64
	message string
	rest    error // nil: nothing
}

func (r refusal) Error() string {
	return fmt.Sprintf("%d records are refused for good: %.200q", r.records, r.message)
}

// send goes by what the specification says of answers, but in one thing: other refusals than 429, 502, 503 and 504 are not to be tried again there, and the data to be
// dropped. We drop nothing: whoever reads the status can put right what is wrong, and then the records come.
func (o *telemetry) send(ctx context.Context, position uint64, records []record) error {
	var refused refusal
	for part := range parts(records, bodyBytes/2) { // a record is in it twice, as fields and as it stands in the journal
		body, err := proto.Marshal(logsRequest(o.sink, part))
		if err == nil {
			var got answer
			// Without a value the field is not sent, but tells net/http that the request may be made again.
			if got, err = o.post(ctx, http.Header{"Content-Type": {protobufType}, "Idempotency-Key": {}}, body); err == nil {
				refused.add(got, len(part))
				o.done = part[len(part)-1].event.Sequence
			}
		}
		if refused.rest = err; err != nil {
			break
		}
	}
	if refused.rest == nil {
		o.done = position
	}
	if refused.records > 0 {
		return refused
	}
	return refused.rest
}

func (o *telemetry) settled(time.Time) (delivered, held uint64) { return o.done, o.done }

// add reads how many of the records of a request that was taken were refused. These must not be sent again (OTLP specification, "Partial Success"). A message without
// a count is a remark, and an answer that is no protobuf says no more than yes.
func (r *refusal) add(a answer, sent int) {
	var response service.ExportLogsServiceResponse
	if kind, _, err := mime.ParseMediaType(a.contentType); err != nil || kind != protobufType || proto.Unmarshal(a.body, &response) != nil {
		return
	}
	if count := response.GetPartialSuccess().GetRejectedLogRecords(); count > 0 {
		r.records += uint64(min(count, int64(sent)))
		r.message = response.GetPartialSuccess().GetErrorMessage()
	}
}

// asRefusal gives what was refused for good, and what else went wrong.
func asRefusal(err error) (refused refusal, rest error) {
	if errors.As(err, &refused) {
		return refused, refused.rest
	}
	return refusal{}, err
}

// logSeverity follows the log data model, appendix B, for syslog's severities.
func logSeverity(s journal.Severity) logs.SeverityNumber {
	switch s {
	case journal.Alert:
		return logs.SeverityNumber_SEVERITY_NUMBER_ERROR3
	case journal.Error:
		return logs.SeverityNumber_SEVERITY_NUMBER_ERROR
	case journal.Warning:
		return logs.SeverityNumber_SEVERITY_NUMBER_WARN
	case journal.Notice:
		return logs.SeverityNumber_SEVERITY_NUMBER_INFO2
	}
	return logs.SeverityNumber_SEVERITY_NUMBER_INFO
}

func logsRequest(s Sink, records []record) *service.ExportLogsServiceRequest {
	scope := &logs.ScopeLogs{Scope: &common.InstrumentationScope{Name: "shekara/journal", Version: s.Version}}
	for _, r := range records {
		scope.LogRecords = append(scope.LogRecords, logRecord(s, r))
	}
	of := &resource.Resource{Attributes: []*common.KeyValue{text("service.name", "shekara"), text("service.version", cmp.Or(s.Version, "unknown")), text("host.name", s.Site)}}
	return &service.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{Resource: of, ScopeLogs: []*logs.ScopeLogs{scope}}}}
}

// logRecord is a record by the log data model, with the semantic conventions' names where they have one. log.record.uid is what a record that comes twice is known by.
func logRecord(s Sink, r record) *logs.LogRecord {
	e := r.event
	sequence := strconv.FormatUint(e.Sequence, 10)
	attributes := []*common.KeyValue{text("log.record.uid", s.Site+"/"+sequence), text("log.record.original", string(r.line)), text("shekara.sequence", sequence)}
	if e.ClockErrorMicroseconds > 0 {
		attributes = append(attributes, number("shekara.clock_error_us", e.ClockErrorMicroseconds))
	}
	for key, value := range map[string]string{"shekara.object": e.Object, "shekara.organisation": e.Organisation, "shekara.systems": strings.Join(e.Systems, ", "), "user.name": e.Actor.User} {
		if value != "" {
			attributes = append(attributes, text(key, value))
		}
	}
	if e.Actor != (journal.Actor{}) {
		attributes = append(attributes, text("user.id", strconv.FormatUint(uint64(e.Actor.UID), 10)), number("process.pid", int64(e.Actor.PID)))
	}
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		attributes = append(attributes, logField(field, e.Fields[field]))
	}
	at := uint64(max(0, e.Time.UnixNano()))
	slices.SortFunc(attributes, func(a, b *common.KeyValue) int { return cmp.Compare(a.Key, b.Key) })
	return &logs.LogRecord{TimeUnixNano: at, ObservedTimeUnixNano: at, SeverityNumber: logSeverity(e.Severity), SeverityText: string(e.Severity), EventName: string(e.Type),
		Body: text("", e.Message).Value, Attributes: attributes}
}

// logField is a field of an event by the semantic conventions' name, if they have one.
func logField(field, value string) *common.KeyValue {
	switch field {
	case "source":
		return text("source.address", value)
	case "destination":
		return text("destination.address", value)
	case "protocol":
		return text("network.transport", value)
	case "sourcePort", "destinationPort":
		if port, err := strconv.ParseUint(value, 10, 16); err == nil {
			return number(map[string]string{"sourcePort": "source.port", "destinationPort": "destination.port"}[field], int64(port))
		}
	}
	return text("shekara.fields."+field, value)
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: strings.ToValidUTF8(value, "\uFFFD")}}}
}

func number(key string, value int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}}
}
