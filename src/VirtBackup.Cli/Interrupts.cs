using System.Runtime.InteropServices;

namespace VirtBackup.Cli;

/// <summary>
/// Ctrl-C and SIGTERM: the first cancels <see cref="First"/>, the second <see cref="Second"/>; the third ends the process
/// as if nobody listened. Safe for concurrent use.
/// </summary>
internal sealed class Interrupts : IDisposable
{
    private readonly CancellationTokenSource _first = new();
    private readonly CancellationTokenSource _second = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private int _count;

    public CancellationToken First => _first.Token;

    public CancellationToken Second => _second.Token;

    /// <summary>Starts to listen.</summary>
    public static Interrupts Register()
    {
        var interrupts = new Interrupts();
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM })
        {
            interrupts._registrations.Add(PosixSignalRegistration.Create(signal, interrupts.Handle));
        }
        return interrupts;
    }

    public void Dispose()
    {
        foreach (var registration in _registrations)
        {
            registration.Dispose();
        }
        _first.Dispose();
        _second.Dispose();
    }

    private void Handle(PosixSignalContext context)
    {
        var count = Interlocked.Increment(ref _count);
        context.Cancel = count <= 2;
        if (count <= 2)
        {
            (count == 1 ? _first : _second).Cancel();
        }
    }
}
