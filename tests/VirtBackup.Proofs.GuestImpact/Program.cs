using VirtBackup.Proofs.GuestImpact;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new GuestImpactProof(), args);
