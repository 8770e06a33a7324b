namespace VirtBackup.Cli.Output;

/// <summary>
/// One line on standard error that says how far a long piece of work is: rewritten in place on a terminal, written now and
/// then elsewhere, never beside JSON for a program. Nothing is shown of work that ends soon. Safe for concurrent use.
/// </summary>
internal sealed class ProgressLine : IDisposable
{
    private const string ClearLine = "\r\u001b[K";

    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan TerminalInterval = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan LogInterval = TimeSpan.FromSeconds(5);

    private readonly Lock _lock = new();
    private readonly Terminal _terminal;
    private readonly TimeProvider _time;
    private readonly bool _isSilent;
    private readonly long _began;
    private long _shown;
    private bool _isOnScreen;

    public ProgressLine(Report report, TimeProvider time)
    {
        (_terminal, _time) = (report.Terminal, time);
        _isSilent = report.IsJson && !_terminal.ErrorIsTerminal;
        _began = time.GetTimestamp();
    }

    /// <summary>Since the work began.</summary>
    public TimeSpan Elapsed => _time.GetElapsedTime(_began);

    /// <summary>Shows the text, if it is time for it.</summary>
    public void Show(Func<string> text)
    {
        if (_isSilent || Elapsed < Silence)
        {
            return;
        }
        lock (_lock)
        {
            if (_shown != 0 && _time.GetElapsedTime(_shown) < (_terminal.ErrorIsTerminal ? TerminalInterval : LogInterval))
            {
                return;
            }
            _shown = _time.GetTimestamp();
            if (_terminal.ErrorIsTerminal)
            {
                var line = TextLayout.Clean(text());
                var width = Math.Max(1, _terminal.Error.Profile.Width - 1);
                _terminal.ErrorWriter.Write(ClearLine + (line.Length > width ? line[..width] : line));
                _isOnScreen = true;
            }
            else
            {
                _terminal.ErrorWriter.WriteLine(text());
            }
            _terminal.ErrorWriter.Flush();
        }
    }

    /// <summary>Takes the line off the terminal.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_isOnScreen)
            {
                _terminal.ErrorWriter.Write(ClearLine);
                _terminal.ErrorWriter.Flush();
                _isOnScreen = false;
            }
        }
    }
}
