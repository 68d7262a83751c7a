package webrtc

import (
	"fmt"

	logging "github.com/ipfs/go-log/v2"
	pionlog "github.com/pion/logging"
)

var (
	log  = logging.Logger("tango/webrtc")
	plog = logging.Logger("tango/webrtc/pion")
)

// pionLoggers makes loggers that write at debug level what pion says, whatever
// it takes to be wrong: mostly that is a remote's fault, and what is ours comes
// back as an error.
type pionLoggers struct{ resets *resets } // nil if nobody wants to know

var _ pionlog.LoggerFactory = pionLoggers{}

func (l pionLoggers) NewLogger(scope string) pionlog.LeveledLogger {
	if scope == "sctp" && l.resets != nil {
		return sctpLogger{pionLogger{scope}, l.resets}
	}
	return pionLogger{scope}
}

type pionLogger struct{ scope string }

func (l pionLogger) log(level, msg string) {
	plog.Debugw(msg, "scope", l.scope, "level", level)
}

func (l pionLogger) logf(level, format string, args []any) {
	if plog.LevelEnabled(logging.LevelDebug) { // pion says much, and formatting costs
		l.log(level, fmt.Sprintf(format, args...))
	}
}

func (pionLogger) Trace(string)                        {} // each packet
func (pionLogger) Tracef(string, ...any)               {}
func (l pionLogger) Debug(msg string)                  { l.log("debug", msg) }
func (l pionLogger) Debugf(format string, args ...any) { l.logf("debug", format, args) }
func (l pionLogger) Info(msg string)                   { l.log("info", msg) }
func (l pionLogger) Infof(format string, args ...any)  { l.logf("info", format, args) }
func (l pionLogger) Warn(msg string)                   { l.log("warn", msg) }
func (l pionLogger) Warnf(format string, args ...any)  { l.logf("warn", format, args) }
func (l pionLogger) Error(msg string)                  { l.log("error", msg) }
func (l pionLogger) Errorf(format string, args ...any) { l.logf("error", format, args) }

// sctpLogger tells of what nothing else does.
type sctpLogger struct {
	pionLogger
	resets *resets
}

func (l sctpLogger) Tracef(format string, args ...any) { l.resets.logged(format, args) }

func (l sctpLogger) Debugf(format string, args ...any) {
	l.resets.logged(format, args)
	l.pionLogger.Debugf(format, args...)
}
