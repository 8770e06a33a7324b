using VirtBackup.Proofs.CaptureFaults;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new CaptureFaultsProof(), args);
