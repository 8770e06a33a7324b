using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// What a guest agent answers, and when: a pipe into which QEMU copies all that it receives from the agent. It shows for how long
/// a guest was frozen, whoever froze it, by whatever way: from the answer to the freeze to the answer to the thaw. Safe for concurrent use.
/// </summary>
public sealed partial class AgentTranscript : IAsyncDisposable
{
    private static readonly byte[] End = "end\n"u8.ToArray();
    private readonly Lock gate = new();
    private readonly List<TimeSpan> freezes = [];
    private readonly FileStream pipe;
    private readonly Task reading;
    private long frozenAt;

    private AgentTranscript(FileStream pipe)
    {
        this.pipe = pipe;
        reading = Task.Factory.StartNew(Read, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>Told when the guest has said that it is frozen.</summary>
    public Action? WhenFrozen { get; set; }

    /// <param name="path">Where QEMU is told to write (<c>logfile</c> of the agent's character device); there is nothing yet.</param>
    public static async Task<AgentTranscript> OpenAsync(string path)
    {
        await Proc.CheckAsync("mkfifo", ["-m", "622", path]);
        // Open for both, so that it neither waits for QEMU nor ends with it.
        return new AgentTranscript(new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0));
    }

    /// <summary>The freezes that ended since the last call.</summary>
    public IReadOnlyList<TimeSpan> TakeFreezes()
    {
        lock (gate)
        {
            var taken = freezes.ToArray();
            freezes.Clear();
            return taken;
        }
    }

    private void Read()
    {
        var line = new List<byte>();
        Span<byte> buffer = stackalloc byte[4096];
        while (true)
        {
            var count = pipe.Read(buffer);
            var now = Stopwatch.GetTimestamp();
            foreach (var value in buffer[..count])
            {
                if (value != '\n')
                {
                    line.Add(value);
                    continue;
                }
                var text = Encoding.Latin1.GetString([.. line]);
                line.Clear();
                if (text == "end") return;
                Take(text, now);
            }
        }
    }

    // Freeze and thaw are answered with the number of file systems; everything else with objects, or with numbers of many digits.
    private void Take(string text, long now)
    {
        if (CountPattern().Match(text) is not { Success: true } match) return;
        var count = int.Parse(match.Groups[1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);
        var isFreeze = false;
        lock (gate)
        {
            if (frozenAt == 0)
            {
                isFreeze = count > 0;
                if (isFreeze) frozenAt = now;
            }
            else
            {
                freezes.Add(Stopwatch.GetElapsedTime(frozenAt, now));
                frozenAt = 0;
            }
        }
        if (isFreeze) WhenFrozen?.Invoke();
    }

    [GeneratedRegex("^[^{]*\\{\"return\": ([0-9]{1,2})\\}")]
    private static partial Regex CountPattern();

    public async ValueTask DisposeAsync()
    {
        await pipe.WriteAsync(End);
        await reading;
        await pipe.DisposeAsync();
    }
}
