using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>
/// The peak resident memory of one process of a service, as the kernel counts it. It refuses to tell a peak that cannot be
/// one: of another process, or below what was seen in between.
/// </summary>
internal sealed class ServiceMeter
{
    // The kernel sums its counters lazily: readings differ by some pages of each thread.
    private const long SlackKiB = 4 << 10;
    private readonly ServiceProcess _service;
    private readonly int _pid;
    private readonly string _started;
    private long _seenKiB;

    public ServiceMeter(string name, ServiceProcess service)
    {
        Name = name;
        _service = service;
        _pid = service.Pid;
        _started = StartOf(_pid);
    }

    public string Name { get; }

    public int Pid => _pid;

    /// <summary>Forgets the peak so far.</summary>
    /// <exception cref="RefutedException">The kernel does not.</exception>
    public void Reset()
    {
        File.WriteAllText($"/proc/{_pid}/clear_refs", "5");
        _seenKiB = 0;
        var (peak, now) = (ProcessTable.KiBOf(_pid, "VmHWM"), ProcessTable.KiBOf(_pid, "VmRSS"));
        if (peak > now + SlackKiB) throw new RefutedException($"the peak of {Name} could not be reset: it stays at {peak} KiB while {now} KiB are resident");
    }

    /// <summary>Looks at the process now.</summary>
    public void Sample() => _seenKiB = Math.Max(_seenKiB, ProcessTable.KiBOf(_pid, "VmRSS") ?? 0);

    /// <summary>The peak since <see cref="Reset"/>, in KiB.</summary>
    /// <exception cref="RefutedException">It was lost.</exception>
    public long Peak()
    {
        if (!_service.IsRunning || _service.Pid != _pid || StartOf(_pid) != _started)
        {
            throw new RefutedException($"the peak of {Name} was lost: the process that was measured is gone");
        }
        var peak = ProcessTable.KiBOf(_pid, "VmHWM") ?? throw new RefutedException($"the peak of {Name} was lost: the kernel does not tell it");
        return peak + SlackKiB >= _seenKiB ? peak : throw new RefutedException($"the peak of {Name} was lost: {peak} KiB are told, {_seenKiB} KiB were seen");
    }

    private static string StartOf(int pid) => ProcessTable.StatOf(pid)?[ProcessTable.StartTimeField] ?? "";
}
