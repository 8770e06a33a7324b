using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tpm;

/// <summary>The memory of a machine's TPM during one capture.</summary>
/// <param name="folder">Where its state lies; null: it cannot be stored, as <paramref name="problem"/> says.</param>
/// <param name="log">Told what is left out.</param>
internal sealed class TpmMemory(Id16 id, string name, string? folder, string? problem, Action<string> log)
{
    private string? _problem = problem;

    /// <summary>Reads it as it is now. Brief. A backup without it is better than none: that it cannot be read is told with the point.</summary>
    public IEnumerable<MachineContent> Read()
    {
        if (folder is null)
        {
            return [];
        }
        try
        {
            if (TpmStateFolder.Read(folder) is { } state)
            {
                return [new MachineContent(id, name, MachineContentKind.Tpm, state.Write())];
            }
            _problem = $"there is no state in {folder}";
        }
        catch (FaultException fault)
        {
            _problem = fault.Message;
        }
        return [];
    }

    /// <summary>The TPM as one of the machine's parts that were left out; none when it was stored.</summary>
    public IEnumerable<DiskSummary> ListSkipped()
    {
        if (_problem is null)
        {
            return [];
        }
        log($"The state of the TPM {name} is not stored: {_problem}. What the guest sealed to it opens with its recovery key only.");
        return [new DiskSummary(id, name, 0, "tpm", $"the TPM's state is not stored: {_problem}")];
    }
}
