using System.Globalization;
using System.Runtime.InteropServices;

namespace VirtBackup.Agent.Host;

/// <summary>How much the agent gives way to the guests of its host.</summary>
public enum SchedulingPriority
{
    Normal,
    /// <summary>Fewer shares of processors (nice 10) and disks.</summary>
    Low,
    /// <summary>Only what nobody else wants (SCHED_IDLE, idle class of the disks' scheduler).</summary>
    Idle,
}

/// <summary>
/// The priority of all threads of this process. Work that somebody waits for is done at normal priority: a frozen guest must not
/// wait for a process that only gets what others leave. Safe for concurrent use.
/// </summary>
internal sealed partial class ProcessPriority(SchedulingPriority usual, ILogger logger) : IDisposable
{
    private const int OtherPolicy = 0, IdlePolicy = 5;
    private const int IoOfProcess = 1;
    private const int IoClassShift = 13, IoNone = 0, IoBestEffort = 2, IoIdle = 3, IoLowest = 7;
    private const int NiceOfProcess = 0, NiceLow = 10;
    private const int LooksMax = 100;
    // The runtime does not always hand a thread's priority on to those that it starts.
    private static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private Timer? _looking;
    private int _urgent;
    private bool _refused;

    /// <summary>From now on, the usual one, also for threads that are started later, within a second or so. Once.</summary>
    public void Begin()
    {
        if (usual != SchedulingPriority.Normal)
        {
            Apply(usual);
            _looking = new Timer(_ => Look(), null, LookInterval, LookInterval);
        }
    }

    public void Dispose() => _looking?.Dispose();

    /// <summary>Normal priority until the result is disposed, for this and for processes started meanwhile.</summary>
    public IDisposable BeginUrgent()
    {
        lock (_gate)
        {
            if (_urgent++ == 0 && usual != SchedulingPriority.Normal)
            {
                Apply(SchedulingPriority.Normal);
            }
        }
        return new Urgent(this);
    }

    private void EndUrgent()
    {
        lock (_gate)
        {
            if (--_urgent == 0 && usual != SchedulingPriority.Normal)
            {
                Apply(usual);
            }
        }
    }

    private void Look()
    {
        lock (_gate)
        {
            if (_urgent == 0)
            {
                Apply(usual);
            }
        }
    }

    private void Apply(SchedulingPriority priority)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }
        var refused = false;
        var changed = new HashSet<int>();
        // A thread that was not reached yet may have started another one behind the look: until a look finds none.
        for (var (found, looks) = (true, 0); found && looks < LooksMax; looks++)
        {
            found = false;
            foreach (var thread in Directory.EnumerateDirectories("/proc/self/task"))
            {
                if (int.TryParse(Path.GetFileName(thread), NumberStyles.None, CultureInfo.InvariantCulture, out var id) && changed.Add(id))
                {
                    found = true;
                    refused |= !TryApply(id, priority) && Directory.Exists(thread);
                }
            }
        }
        if (refused && !_refused)
        {
            _refused = true;
            LogRefused(logger, priority);
        }
    }

    private static bool TryApply(int thread, SchedulingPriority priority)
    {
        var none = 0;
        var (policy, nice, io) = priority switch
        {
            SchedulingPriority.Idle => (IdlePolicy, 0, IoIdle << IoClassShift),
            SchedulingPriority.Low => (OtherPolicy, NiceLow, (IoBestEffort << IoClassShift) | IoLowest),
            _ => (OtherPolicy, 0, IoNone << IoClassShift),
        };
        return SetScheduler(thread, policy, ref none) == 0 & SetNice(NiceOfProcess, thread, nice) == 0 & SetIo(IoCall, IoOfProcess, thread, io) >= 0;
    }

    private static nint IoCall => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 30 : 251;

    [DllImport("libc", EntryPoint = "sched_setscheduler")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetScheduler(int thread, int policy, ref int priority);

    [DllImport("libc", EntryPoint = "setpriority")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetNice(int which, int thread, int nice);

    [DllImport("libc", EntryPoint = "syscall")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nint SetIo(nint call, nint which, nint thread, nint io);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The system refuses the priority {Priority} (LimitNICE=+0 of the unit permits to come back from idle)")]
    private static partial void LogRefused(ILogger logger, SchedulingPriority priority);

    private sealed class Urgent(ProcessPriority owner) : IDisposable
    {
        private ProcessPriority? _owner = owner;

        public void Dispose() => Interlocked.Exchange(ref _owner, null)?.EndUrgent();
    }
}
