using VirtBackup.Core;

namespace VirtBackup.Agent.Control;

/// <summary>
/// Lets one job at a time change a machine: a job that was taken back may still be cleaning up when the next one begins.
/// Safe for concurrent use.
/// </summary>
internal sealed class MachineTurns
{
    // Only machines of this host come here: their number bounds this.
    private readonly Dictionary<Id16, SemaphoreSlim> _gates = [];

    /// <summary>Waits for the machine; disposing the result lets the next one in.</summary>
    public async ValueTask<IDisposable> EnterAsync(Id16 machine, CancellationToken cancellationToken)
    {
        SemaphoreSlim? gate;
        lock (_gates)
        {
            if (!_gates.TryGetValue(machine, out gate))
            {
                _gates.Add(machine, gate = new SemaphoreSlim(1, 1));
            }
        }
        await gate.WaitAsync(cancellationToken);
        return new Turn(gate);
    }

    private sealed class Turn(SemaphoreSlim gate) : IDisposable
    {
        public void Dispose() => gate.Release();
    }
}
