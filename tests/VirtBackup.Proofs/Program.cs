using VirtBackup.Proofs.CbtAudit;
using VirtBackup.Proofs.CrashPoints;
using VirtBackup.Proofs.CrashSimulation;
using VirtBackup.Proofs.FlipBytes;
using VirtBackup.Proofs.Heal;
using VirtBackup.Proofs.ScrubSpeed;
using VirtBackup.Testing.Proofs;

IProof[] proofs = [new CrashPointsProof(), new FlipBytesProof(), new CrashSimulationProof(), new HealProof(), new ScrubSpeedProof(), new CbtAuditProof()];
if (args.Length == 0 || proofs.FirstOrDefault(candidate => candidate.Name == args[0]) is not { } proof)
{
    Console.Error.WriteLine($"Usage: PROOF {ProofOptions.Usage}; proofs: {string.Join(", ", proofs.Select(candidate => candidate.Name))}");
    return 2;
}
if (args is [_, SimulationWorker.Option, .. var options])
{
    return SimulationWorker.Serve(options);
}
if (args is [_, ScrubWorker.Option, .. var work])
{
    return await ScrubWorker.RunAsync(work);
}
return await ProofProgram.RunAsync(proof, args[1..]);
